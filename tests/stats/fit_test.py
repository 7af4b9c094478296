"""Maximum likelihood and a posteriori against scipy's fits, each other, and ridge and lasso (lecture 3.6–3.8, 3.14)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from dlcore.stats import _continuous as continuous
from dlcore.stats import _discrete as discrete
from dlcore.stats import _fit as fit
from dlcore.stats import _posterior as posterior

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(1.2, 0.7, 41)
LAPLACE = RNG.laplace(-0.5, 1.3, 41)
COINS = RNG.integers(0, 4, 41) == 0
DICE = RNG.choice(4, 41, p=[0.1, 0.2, 0.3, 0.4])
INPUTS = RNG.normal(size=(41, 3))
TARGETS = INPUTS @ [1.0, -2.0, 0.5] + 0.3 * RNG.normal(size=41)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def linear_log_prob(params, data):
    inputs, targets = data
    return continuous.normal.log_prob({"mean": inputs @ params["kernel"], "log_scale": params["log_scale"]}, targets)


def test_closed_forms_are_scipys(float64):
    for function, samples, family in (
        (fit.fit_normal, NORMAL, scipy.stats.norm),
        (fit.fit_laplace, LAPLACE, scipy.stats.laplace),
    ):
        found = function(jnp.asarray(samples))
        np.testing.assert_allclose([found["mean"], np.exp(found["log_scale"])], family.fit(samples), rtol=1e-10)
    coins = fit.fit_bernoulli(jnp.asarray(COINS, jnp.int32))
    assert float(jax.nn.sigmoid(coins["logit"])) == pytest.approx(COINS.mean(), rel=1e-12)
    dice = fit.fit_categorical(jnp.asarray(DICE), 5)
    np.testing.assert_allclose(jax.nn.softmax(dice["logits"]), np.bincount(DICE, minlength=5) / 41, rtol=1e-12)
    line = fit.fit_linear(jnp.asarray(INPUTS), jnp.asarray(TARGETS))
    kernel, squares = np.linalg.lstsq(INPUTS, TARGETS)[:2]
    np.testing.assert_allclose(line["kernel"], kernel, rtol=1e-10)
    assert float(jnp.exp(2 * line["log_scale"])) == pytest.approx(squares[0] / 41, rel=1e-10)


@pytest.mark.slow
def test_numeric_is_the_closed_form(float64):
    zero = {"mean": jnp.zeros(()), "log_scale": jnp.zeros(())}
    cases = [
        (continuous.normal.log_prob, zero, NORMAL, fit.fit_normal(jnp.asarray(NORMAL))),
        (discrete.bernoulli.log_prob, {"logit": jnp.zeros(())}, COINS, fit.fit_bernoulli(jnp.asarray(COINS, int))),
        (
            linear_log_prob,
            {"kernel": jnp.zeros(3), "log_scale": jnp.zeros(())},
            (INPUTS, TARGETS),
            fit.fit_linear(jnp.asarray(INPUTS), jnp.asarray(TARGETS)),
        ),
    ]
    for log_prob, start, data, closed in cases:
        data = jax.tree.map(jnp.asarray, data)
        found = posterior.maximize_likelihood(log_prob, start, data, tolerance=1e-10)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found.params, closed)
        assert int(found.steps) < 30 and float(found.gradient_norm) <= 1e-10
        assert float(found.loss) == pytest.approx(float(posterior.negative_log_likelihood(log_prob, closed, data)))


@pytest.mark.slow
def test_numeric_categorical_has_one_of_many_logits(float64):
    start, data = {"logits": jnp.zeros(4)}, jnp.asarray(DICE)
    found = posterior.maximize_likelihood(discrete.categorical.log_prob, start, data)
    closed = fit.fit_categorical(data, 4)
    np.testing.assert_allclose(jax.nn.softmax(found.params["logits"]), jnp.exp(closed["logits"]), rtol=1e-5)


def test_numeric_laplace_reaches_the_likelihood_of_the_median(float64):
    start, data = {"mean": jnp.zeros(()), "log_scale": jnp.zeros(())}, jnp.asarray(LAPLACE)
    found = posterior.maximize_likelihood(continuous.laplace.log_prob, start, data)
    least = posterior.negative_log_likelihood(continuous.laplace.log_prob, fit.fit_laplace(data), data)
    assert float(least) <= float(found.loss) + 1e-12 and float(found.loss) == pytest.approx(float(least), abs=2e-3)


@pytest.mark.slow
def test_numeric_serves_families_without_a_closed_form(float64):
    samples = scipy.stats.beta(2.0, 5.0).rvs(60, random_state=0)
    start = {"log_alpha": jnp.zeros(()), "log_beta": jnp.zeros(())}
    found = posterior.maximize_likelihood(continuous.beta.log_prob, start, jnp.asarray(samples), tolerance=1e-9)
    expected = scipy.stats.beta.fit(samples, floc=0, fscale=1)[:2]
    np.testing.assert_allclose([np.exp(found.params[n]) for n in ("log_alpha", "log_beta")], expected, rtol=1e-4)


@pytest.mark.slow
def test_nll_tends_to_the_cross_entropy():
    # H(p, q) = H(p) + KL(p ‖ q), both closed.
    p, q = ({"mean": jnp.float32(m), "log_scale": jnp.float32(s)} for m, s in ((0.5, 0.2), (0.0, 0.0)))
    limit = float(continuous.normal.entropy(p) + continuous.normal.kl(p, q))
    x = continuous.normal.sample(jax.random.key(0), p, (40_000,))
    spread = float(continuous.normal.log_prob(q, x).std())
    for m in (100, 2000, 40_000):
        found = float(posterior.negative_log_likelihood(continuous.normal.log_prob, q, x[:m]))
        assert abs(found - limit) < 4 * spread / np.sqrt(m)


@pytest.mark.slow
def test_normal_prior_is_l2_and_laplace_prior_is_l1(float64):
    params = {"a": jnp.asarray([0.3, -1.2]), "b": {"c": jnp.asarray([[2.0, -0.4]])}}
    sizes = {
        posterior.normal_log_prior: lambda x: 0.5 * jnp.square(x).sum(),
        posterior.laplace_log_prior: lambda x: jnp.abs(x).sum(),
    }
    for std in (0.3, 2.0):
        for prior, size in sizes.items():
            alpha = 1 / std**2 if prior is posterior.normal_log_prior else 1 / std
            penalty = jax.grad(lambda p, a=alpha, f=size: a * sum(map(f, jax.tree.leaves(p))))(params)
            found = jax.grad(lambda p, f=prior, s=std: -f(p, s))(params)
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-14), found, penalty)
    flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)])
    for prior, family in zip(sizes, (scipy.stats.norm, scipy.stats.laplace), strict=True):
        assert float(prior(params, 0.3)) == pytest.approx(family(0, 0.3).logpdf(flat).sum(), rel=1e-12)


def fixed_noise(params, data):
    return linear_log_prob({**params, "log_scale": jnp.log(0.3)}, data)


def test_map_with_a_normal_prior_is_ridge(float64):
    data = jnp.asarray(INPUTS), jnp.asarray(TARGETS)
    prior = partial(posterior.normal_log_prior, std=0.5)
    found = posterior.maximize_posterior(fixed_noise, prior, {"kernel": jnp.zeros(3)}, data, tolerance=1e-10)
    ridge = np.linalg.solve(INPUTS.T @ INPUTS + (0.3 / 0.5) ** 2 * np.eye(3), INPUTS.T @ TARGETS)
    np.testing.assert_allclose(found.params["kernel"], ridge, rtol=1e-8)


@pytest.mark.slow
def test_posterior_gradients_are_likelihood_and_penalty(float64):
    data, kernel = (jnp.asarray(INPUTS), jnp.asarray(TARGETS)), {"kernel": jnp.asarray([0.5, -1.0, 0.2])}
    for prior, penalty in (
        (partial(posterior.normal_log_prior, std=0.5), lambda w: w / 0.25),
        (partial(posterior.laplace_log_prior, scale=0.5), lambda w: jnp.sign(w) / 0.5),
    ):
        found = jax.grad(partial(posterior.negative_log_posterior, fixed_noise, prior))(kernel, data)["kernel"]
        residual = TARGETS - INPUTS @ np.asarray(kernel["kernel"])
        expected = (-INPUTS.T @ residual / 0.09 + penalty(kernel["kernel"])) / 41
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_certain_outcomes_have_infinite_logits_and_probability_one():
    ones = fit.fit_bernoulli(jnp.ones(5, jnp.int32))
    assert float(ones["logit"]) == np.inf
    np.testing.assert_array_equal(discrete.bernoulli.log_prob(ones, jnp.arange(2)), [-np.inf, 0])
    seen = fit.fit_categorical(jnp.asarray([0, 2]), 3)
    expected = [np.log(0.5), -np.inf, np.log(0.5)]
    np.testing.assert_allclose(discrete.categorical.log_prob(seen, jnp.arange(3)), expected, rtol=1e-6)


def test_likelihoods_without_a_maximum_are_refused():
    equal, none = jnp.ones(4), jnp.zeros(0)
    cases = [
        (lambda: fit.fit_normal(equal), "all equal"),
        (lambda: fit.fit_laplace(equal), "all equal"),
        (lambda: fit.fit_normal(none), "no samples"),
        (lambda: fit.fit_normal(jnp.asarray([1.0, jnp.nan])), "not finite"),
        (lambda: fit.fit_linear(jnp.ones((4, 1)), equal), "met exactly"),
        (lambda: fit.fit_linear(jnp.ones((4, 1)), equal[:3]), "4 inputs and 3 targets"),
        (lambda: fit.fit_bernoulli(jnp.asarray([0, 2])), "0 … 1"),
        (lambda: fit.fit_categorical(jnp.asarray([0, -1]), 3), "0 … 2"),
        (lambda: posterior.normal_log_prior({"a": equal}, 0.0), "positive"),
        (
            lambda: posterior.maximize_likelihood(
                continuous.beta.log_prob, {"log_alpha": jnp.float32(0.1), "log_beta": jnp.float32(0.1)}, 2 * equal
            ),
            "not|inf",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
