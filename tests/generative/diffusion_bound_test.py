"""The variational bound against Gaussian data, for which everything is known in closed form (lecture 29.3)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dlcore.generative.diffusion import bound, process, schedule
from dlcore.generative.diffusion.bound import Reverse

MEAN, STD = np.array([0.5, -0.2, 0.1]), np.array([0.6, 0.3, 0.9])
VARIANCES = pytest.mark.parametrize("variance", ["beta", "posterior"])


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def best_denoiser(found, kind):
    """E[x_0|x_t] for data N(MEAN, STD²), as a prediction of any kind."""

    def predict(x, t):
        signal, noise = schedule.at(found.signal, t, x), schedule.at(found.noise, t, x)
        gain = STD**2 * signal / (STD**2 * signal**2 + noise**2)
        x0 = MEAN + gain * (x - signal * MEAN)
        eps = (x - signal * x0) / noise
        return process.target(found, kind, x0, t, eps)

    return predict


def model_density(found, variance):
    """Mean and variance of p(x_0) for the best denoiser: its reverse chain is linear-Gaussian."""
    mean, var = np.zeros(3), np.ones(3)
    of_data, of_noisy = process.posterior_weights(found)
    sigma2 = bound.reverse_variance(found, variance)
    for t in range(found.steps, 0, -1):
        gain = STD**2 * found.signal[t] / (STD**2 * found.signal[t] ** 2 + found.noise[t] ** 2)
        slope = of_noisy[t] + of_data[t] * gain
        shift = of_data[t] * MEAN * (1 - gain * found.signal[t])
        mean, var = slope * mean + shift, slope**2 * var + sigma2[t]
    return mean, var


def data(n, seed=0):
    return jnp.asarray(MEAN + STD * np.random.default_rng(seed).normal(size=(n, 3)))


@pytest.mark.slow
@VARIANCES
@pytest.mark.parametrize("kind", process.KINDS)
def test_bound_lies_above_the_exact_nll_of_the_model(variance, kind, float64):
    found, x = schedule.cosine(30), data(4)
    reverse = Reverse(found, kind, variance)
    many = jnp.repeat(x, 3000, axis=0)
    prior, terms = bound.all_terms(reverse, best_denoiser(found, kind), many, key=jax.random.key(0))
    totals = (prior + terms.sum(0)).reshape(4, 3000)
    mean, var = model_density(found, variance)
    exact = -scipy.stats.norm(mean, np.sqrt(var)).logpdf(x).sum(-1)
    error = np.asarray(totals.std(1)) / math.sqrt(3000)
    assert (np.asarray(totals.mean(1)) > exact - 4 * error).all()


@pytest.mark.slow
def test_bound_approaches_the_entropy_of_the_data(float64):
    entropy = scipy.stats.norm(MEAN, STD).entropy().sum()

    def gap(steps, variance):
        reverse = Reverse(schedule.cosine(steps), "eps", variance)
        denoiser = best_denoiser(reverse.schedule, "eps")
        prior, terms = bound.all_terms(reverse, denoiser, data(20_000), key=jax.random.key(0))
        return float((prior + terms.sum(0)).mean()) - entropy

    gaps = [gap(steps, "beta") for steps in (10, 40, 160)]
    assert gaps[0] > gaps[1] > gaps[2] > -0.03
    assert gaps[2] < 0.5 * gaps[0]
    # β̃ is the variance for data that are known (Ho et al. 2020, section 3.2), too small for these.
    assert gap(40, "posterior") > gaps[1]


@pytest.mark.slow
@VARIANCES
@pytest.mark.parametrize("t", [2, 5, 12])
def test_terms_are_kullback_leibler_divergences_of_gaussians(variance, t, float64):
    found = schedule.linear(12)
    x0, eps = data(2), jnp.asarray(np.random.default_rng(1).normal(size=(2, 3)))
    predict = best_denoiser(found, "v")
    value = bound.term(Reverse(found, "v", variance), predict, x0, jnp.full(2, t), eps)
    before, now, beta = found.alpha_bar[t - 1], found.alpha_bar[t], found.beta[t]
    x_t = math.sqrt(now) * x0 + math.sqrt(1 - now) * eps
    guess = process.denoise(found, "v", x_t, jnp.full(2, t), predict(x_t, jnp.full(2, t))).x0

    def posterior_mean(x):
        return (math.sqrt(before) * beta * x + math.sqrt(1 - beta) * (1 - before) * x_t) / (1 - now)

    q = beta * (1 - before) / (1 - now)
    p = {"beta": beta, "posterior": q}[variance]
    distance = np.square(posterior_mean(x0) - posterior_mean(guess))
    expected = (0.5 * np.log(p / q) + (q + distance) / (2 * p) - 0.5).sum(-1)
    np.testing.assert_allclose(value, expected, rtol=1e-8, atol=1e-14)


@pytest.mark.slow
def test_term_is_the_weighted_squared_error_of_eps(float64):
    # β²/(2σ²(1 − β)(1 − ᾱ)) ‖ε − ε̂‖² for equal variances (Ho et al. 2020, eq. 12).
    found, t = schedule.sigmoid(15), 6
    x0, eps, guess = jnp.asarray(np.random.default_rng(2).normal(size=(3, 4, 3)))
    value = bound.term(Reverse(found, "eps"), lambda x, t: guess, x0, jnp.full(4, t), eps)
    beta, alpha_bar = found.beta[t], found.alpha_bar[t]
    weight = beta**2 / (2 * found.posterior_variance[t] * (1 - beta) * (1 - alpha_bar))
    np.testing.assert_allclose(value, weight * np.square(eps - guess).sum(-1), rtol=1e-8)


@pytest.mark.slow
def test_prior_divergence_is_analytic_and_small(float64):
    found, x0 = schedule.cosine(50), data(3)
    share = found.alpha_bar[-1]
    expected = 0.5 * (share * np.square(x0) - share - np.log1p(-share)).sum(-1)
    np.testing.assert_allclose(bound.prior_divergence(found, x0), expected, atol=1e-12)
    assert (expected < 1e-3).all()


@pytest.mark.slow
@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("std", [0.002, 0.05, 1.5])
def test_grey_levels_have_probability_one(levels, std):
    grey = jnp.linspace(-1, 1, levels)
    for mean in (-1.3, -1.0, 0.013, 0.5, 2.0):
        nll = bound.discretized_gaussian_nll(jnp.full(levels, mean), grey, jnp.float32(std), levels)
        assert float(jnp.exp(-nll).sum()) == pytest.approx(1, abs=2e-4)


def test_reconstruction_integrates_the_density_over_its_cell(float64):
    grey, mean, std = np.linspace(-1, 1, 17), 0.27, 0.11
    value = bound.discretized_gaussian_nll(jnp.full(17, mean), jnp.asarray(grey), jnp.float64(std), 17)
    edges = np.append(np.append(-np.inf, grey[:-1] + 1 / 16), np.inf)
    expected = -np.log(np.diff(scipy.stats.norm(mean, std).cdf(edges)))
    np.testing.assert_allclose(value[2:14], expected[2:14], rtol=1e-6)


@pytest.mark.slow
def test_reconstruction_is_finite_and_has_a_gradient_far_away():
    def nll(mean):
        return bound.discretized_gaussian_nll(mean, jnp.array([-1.0, 0.0, 1.0]), jnp.float32(0.006), 256).sum()

    for mean in (-1.0, -0.5, 0.9, 1.0):
        value, slope = jax.value_and_grad(nll)(jnp.full(3, mean))
        assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.slow
def test_first_term_is_the_reconstruction_of_the_predicted_data(float64):
    found = schedule.cosine(8)
    x0 = jnp.asarray(np.random.default_rng(0).integers(0, 17, size=(2, 3)) / 8 - 1)
    reverse = Reverse(found, "x0", "beta", clip=1.0, levels=17)
    value = bound.term(reverse, lambda x, t: jnp.full_like(x, 1.7), x0, jnp.ones(2, jnp.int32), jnp.zeros_like(x0))
    expected = bound.discretized_gaussian_nll(jnp.ones_like(x0), x0, jnp.sqrt(found.beta[1]), 17).sum(-1)
    np.testing.assert_allclose(value, expected)


@pytest.mark.slow
@VARIANCES
def test_estimate_over_few_times_is_unbiased(variance, float64):
    found = schedule.cosine(12)
    reverse, predict = Reverse(found, "eps", variance), lambda x, t: 0.3 * best_denoiser(found, "eps")(x, t)
    x, n = data(1), 40_000
    many = jnp.repeat(x, n, axis=0)
    _, terms = bound.all_terms(reverse, predict, many[:4000], key=jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), n)
    for draws in (1, 3):
        shares = jax.random.uniform(jax.random.key(2), (n,))
        parts = bound.estimate(reverse, predict, many, keys, shares, draws=draws)
        for found_values, expected in ((parts.divergence, terms[1:].sum(0)), (parts.reconstruction, terms[0])):
            error = math.hypot(
                float(found_values.std()) / math.sqrt(n), float(expected.std()) / math.sqrt(len(expected))
            )
            assert abs(float(found_values.mean() - expected.mean())) < 4 * error
        np.testing.assert_allclose(parts.total(), parts.prior + parts.divergence + parts.reconstruction)


@pytest.mark.slow
def test_estimate_follows_its_row_keys_alone():
    found = schedule.cosine(12)
    reverse, x = Reverse(found, "eps"), data(6).astype(jnp.float32)
    rows = jnp.arange(6)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), rows)
    shares = bound.spread(jax.random.key(1), rows)
    whole = bound.estimate(reverse, best_denoiser(found, "eps"), x, keys, shares)
    part = bound.estimate(reverse, best_denoiser(found, "eps"), x[2:4], keys[2:4], shares[2:4])
    np.testing.assert_allclose(whole.total()[2:4], part.total(), rtol=1e-5)


def test_time_distribution_is_that_of_white_data():
    found = schedule.cosine(100)
    p = bound.time_distribution(found)
    assert p[0] == p[1] == 0 and p.sum() == pytest.approx(1) and p[2:].min() > 0.1 / 100
    ones = jnp.ones((1, 1))
    white = [
        float(bound.term(Reverse(found, "x0"), lambda x, t: ones - math.sqrt(1 / (1 + found.snr[int(t[0])])), ones,
                         jnp.array([t]), ones)[0])
        for t in (3, 50, 90)
    ]  # fmt: skip
    shares = (p[[3, 50, 90]] - 0.1 / 99) / 0.9
    np.testing.assert_allclose(shares / shares[0], np.array(white) / white[0], rtol=1e-3)


@pytest.mark.slow
def test_shares_are_uniform_and_evenly_spread_over_rows():
    rows = jnp.arange(60_000)
    for seed in range(3):
        shares = np.asarray(bound.spread(jax.random.key(seed), rows))
        assert shares.min() >= 0 and shares.max() < 1
        assert np.ptp(np.histogram(shares, bins=100, range=(0, 1))[0]) <= 8
    first = [float(bound.spread(jax.random.key(seed), rows[:1])[0]) for seed in range(300)]
    assert scipy.stats.kstest(first, "uniform").pvalue > 0.01


def test_errors_name_what_is_wrong():
    one = schedule.from_betas(np.array([0.5]))
    with pytest.raises(ValueError, match="variance must be"):
        bound.reverse_variance(schedule.linear(5), "learned")
    with pytest.raises(ValueError, match="variance must be"):
        bound.reverse_variance(one, "posterior")
    with pytest.raises(ValueError, match="one step"):
        bound.time_distribution(one)
    with pytest.raises(ValueError, match="draws"):
        bound.estimate(
            Reverse(schedule.linear(5), "eps"),
            lambda x, t: x,
            jnp.zeros((1, 2)),
            jax.random.key(0),
            jnp.zeros(1),
            draws=0,
        )


def test_the_variance_of_the_first_step_is_that_of_the_second():
    """β̃_1 is 0: it is replaced by β̃_2 (Ho et al. 2020, section 3.2), which differs from β_1."""
    for found in (schedule.linear(10), schedule.cosine(50), schedule.respace(schedule.sigmoid(100), 7)):
        variance = bound.reverse_variance(found, "posterior")
        a, b = found.alpha_bar, found.beta
        np.testing.assert_allclose(variance[1:3], b[2] * (1 - a[1]) / (1 - a[2]), rtol=1e-12)
        assert abs(variance[1] / found.beta[1] - 1) > 0.01
        np.testing.assert_array_equal(bound.reverse_variance(found, "beta"), found.beta)


@pytest.mark.slow
def test_draws_of_the_bound_have_times_of_their_own_spread_over_all():
    found, draws, n = schedule.cosine(1000), 4, 30
    shares, told = jnp.linspace(0.02, 0.95, n), []

    def predict(x, t):
        told.append(np.asarray(t))
        return jnp.zeros_like(x)

    keys = jax.random.split(jax.random.key(0), n)
    bound.estimate(Reverse(found, "eps"), predict, jnp.zeros((n, 2)), keys, shares, draws=draws)
    times = np.stack([t for t in told if (t > 1).any()])
    assert times.shape == (draws, n)
    p = bound.time_distribution(found)
    place = np.cumsum(p)[times]
    expected = (np.asarray(shares) + np.arange(draws)[:, None]) / draws
    np.testing.assert_allclose(place, expected, atol=2 * p.max())
