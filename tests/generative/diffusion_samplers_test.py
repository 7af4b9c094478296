"""Samplers with the exact score of a Gaussian mixture, whose moments they must reproduce (lecture 29.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative.diffusion import process, samplers, schedule
from dlcore.generative.diffusion.objective import guided

WEIGHTS = np.array([0.25, 0.45, 0.3])
MEANS = np.array([[1.2, 0.4], [-0.8, 0.9], [0.1, -1.1]])
COVARIANCES = np.array([[[0.08, 0.05], [0.05, 0.12]], [[0.15, -0.08], [-0.08, 0.1]], [[0.05, 0.0], [0.0, 0.2]]])
MEAN = WEIGHTS @ MEANS
COVARIANCE = np.einsum("k,kij->ij", WEIGHTS, COVARIANCES + MEANS[:, :, None] * MEANS[:, None, :]) - np.outer(MEAN, MEAN)

RULES = {
    "ancestral": samplers.ancestral,
    "ancestral_beta": lambda s: samplers.ancestral(s, "beta"),
    "ddim": samplers.ddim,
    "ddim_half": lambda s: samplers.ddim(s, 0.5),
    "dpm": samplers.dpm,
}


def exact(full, kind, component=None):
    """E[x_0|x_t] of the mixture, or of one component, as a prediction; `t` counts the steps of `full`."""
    chosen = slice(None) if component is None else slice(component, component + 1)
    weights, means, covariances = WEIGHTS[chosen], MEANS[chosen], COVARIANCES[chosen]

    def one(x, t):
        signal, noise = jnp.asarray(full.signal)[t], jnp.asarray(full.noise)[t]
        log_joint, guesses = [], []
        for w, m, c in zip(weights, means, covariances, strict=True):
            total = signal**2 * c + noise**2 * jnp.eye(2)
            log_joint.append(jnp.log(w) + jax.scipy.stats.multivariate_normal.logpdf(x, signal * m, total))
            guesses.append(m + signal * c @ jnp.linalg.solve(total, x - signal * m))
        return jax.nn.softmax(jnp.stack(log_joint)) @ jnp.stack(guesses)

    def predict(x, t):
        x0 = jax.vmap(one)(x, t)
        eps = (x - schedule.at(full.signal, t, x) * x0) / schedule.at(full.noise, t, x)
        return process.target(full, kind, x0, t, eps)

    return predict


def drawn(rule, steps, kind="v", n=20_000, seed=0, **options):
    full = schedule.cosine(1000)
    short = schedule.respace(full, steps)
    sample = samplers.make_sampler(exact(full, kind), short, RULES[rule](short), kind=kind, **options)
    return np.asarray(sample(jax.random.key(seed), (n, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "steps", "mean", "spread"), [
    ("ancestral", 100, 0.03, 0.04),
    pytest.param("ancestral_beta", 200, 0.03, 0.04, marks=pytest.mark.slow),
    ("ddim", 100, 0.03, 0.04),
    ("ddim_half", 100, 0.03, 0.04),
    ("dpm", 20, 0.03, 0.04),
])  # fmt: skip
def test_every_sampler_reproduces_mean_and_covariance(rule, steps, mean, spread):
    x = drawn(rule, steps)
    np.testing.assert_allclose(x.mean(0), MEAN, atol=mean)
    np.testing.assert_allclose(np.cov(x.T), COVARIANCE, atol=spread)
    nearest = np.square(x[:, None] - MEANS).sum(-1).argmin(1)
    rng = np.random.default_rng(0)
    truth = [rng.multivariate_normal(MEANS[k], COVARIANCES[k], 20_000) for k in range(3)]
    expected = sum(
        w * np.bincount(np.square(t[:, None] - MEANS).sum(-1).argmin(1), minlength=3) / 20_000
        for w, t in zip(WEIGHTS, truth, strict=True)
    )
    np.testing.assert_allclose(np.bincount(nearest, minlength=3) / len(x), expected, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", process.KINDS)
def test_kinds_of_prediction_give_the_same_samples(kind):
    with jax.enable_x64(True):
        np.testing.assert_allclose(drawn("dpm", 10, kind, n=50), drawn("dpm", 10, "v", n=50), atol=1e-4)


@pytest.mark.slow
def test_second_order_comes_closer_to_the_path_without_noise():
    with jax.enable_x64(True):
        truth = drawn("ddim", 1000, n=200)
        errors = {(rule, s): np.abs(drawn(rule, s, n=200) - truth).mean() for rule in ("ddim", "dpm") for s in (15, 30)}
    assert errors["dpm", 15] < 0.5 * errors["ddim", 15]
    assert errors["dpm", 30] < 0.5 * errors["ddim", 30]
    assert errors["dpm", 30] < 0.4 * errors["dpm", 15]


def test_ddim_with_all_noise_is_ancestral_sampling():
    short = schedule.respace(schedule.linear(100), 12)
    for a, b in zip(samplers.ddim(short, 1.0), samplers.ancestral(short), strict=True):
        np.testing.assert_allclose(a[2:], b[2:], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(a[1], b[1], atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_keeps_data_that_it_knows(rule):
    # With x̂_0 = x_0 the deterministic rules map √ᾱ_t x_0 + √(1 − ᾱ_t) ε to the same at t − 1, and the last step to x_0.
    short = schedule.respace(schedule.cosine(200), 15)
    noisy, data, before, noise = RULES[rule](short)
    carried = noisy[1:] * short.signal[1:] + data[1:] + before[1:]
    np.testing.assert_allclose(carried, short.signal[:-1], rtol=1e-9)
    if rule != "ancestral_beta":
        variance = (noisy * short.noise)[1:] ** 2 + noise[1:] ** 2
        np.testing.assert_allclose(variance, short.noise[:-1] ** 2, atol=1e-12)
    assert noise[1] == 0


def test_dpm_coefficients_are_those_of_the_paper():
    short = schedule.respace(schedule.cosine(100), 10)
    rule, a, s = samplers.dpm(short), short.signal, short.noise
    with np.errstate(divide="ignore"):
        log_ratio = np.log(a / s)
    i = 5
    h, last = log_ratio[i - 1] - log_ratio[i], log_ratio[i] - log_ratio[i + 1]
    r = last / h
    assert rule.noisy[i] == pytest.approx(s[i - 1] / s[i])
    assert rule.data[i] == pytest.approx(-a[i - 1] * np.expm1(-h) * (1 + 1 / (2 * r)))
    assert rule.before[i] == pytest.approx(a[i - 1] * np.expm1(-h) / (2 * r))
    assert rule.before[1] == rule.before[10] == 0


@pytest.mark.slow
def test_scan_elsewhere_equals_the_loop_on_cpu(monkeypatch):
    short = schedule.respace(schedule.linear(50), 6)
    sample = samplers.make_sampler(
        exact(schedule.linear(50), "v"), short, samplers.ancestral(short), kind="v", keep=True
    )
    loop = np.asarray(sample(jax.random.key(3), (5, 2)))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(np.asarray(sample(jax.random.key(3), (5, 2))), loop, atol=1e-4)
    assert loop.shape == (7, 5, 2)


@pytest.mark.slow
def test_guidance_at_0_and_1_is_unconditional_and_conditional():
    full = schedule.cosine(500)
    conditional, unconditional = exact(full, "eps", component=1), exact(full, "eps")
    short = schedule.respace(full, 40)

    def samples(predict):
        rule = samplers.dpm(short)
        return np.asarray(samplers.make_sampler(predict, short, rule, kind="eps")(jax.random.key(0), (4000, 2)))

    mixed = {w: samples(lambda x, t, w=w: guided(conditional(x, t), unconditional(x, t), w)) for w in (0.0, 1.0, 3.0)}
    np.testing.assert_allclose(mixed[0.0], samples(unconditional), atol=1e-3)
    np.testing.assert_allclose(mixed[1.0], samples(conditional), atol=1e-3)
    np.testing.assert_allclose(mixed[1.0].mean(0), MEANS[1], atol=0.03)
    np.testing.assert_allclose(np.cov(mixed[1.0].T), COVARIANCES[1], atol=0.02)
    # Above 1 samples move away from what the other components explain.
    assert np.linalg.norm(mixed[3.0].mean(0) - MEAN) > np.linalg.norm(MEANS[1] - MEAN) + 0.05


@pytest.mark.slow
def test_guidance_is_the_same_for_all_kinds_of_prediction():
    full, x, t = schedule.cosine(50), jnp.array([[0.3, -0.7]]), jnp.array([20])
    found = [
        process.denoise(full, kind, x, t, guided(exact(full, kind, 1)(x, t), exact(full, kind)(x, t), 2.5)).x0
        for kind in process.KINDS
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[0], found[2], atol=1e-5)


def test_clipping_bounds_the_samples_and_calls_do_not_retrace():
    traces = []

    def predict(x, t, value):
        traces.append(t.shape)
        return jnp.full_like(x, value)

    short = schedule.respace(schedule.linear(20), 5)
    sample = samplers.make_sampler(predict, short, samplers.ancestral(short), kind="x0", clip=1.0)
    for value in (4.0, -4.0):
        x = np.asarray(sample(jax.random.key(0), (3, 2), jnp.float32(value)))
        np.testing.assert_allclose(x, np.sign(value), atol=1e-6)
    assert len(traces) == 1


@pytest.mark.slow
def test_network_is_told_the_times_of_the_full_schedule():
    told = []
    short = schedule.respace(schedule.linear(100), 4)
    with jax.disable_jit():
        samplers.make_sampler(lambda x, t: told.append(int(t[0])) or x, short, samplers.ddim(short), kind="x0")(
            jax.random.key(0), (1, 2)
        )
    assert told == [100, 75, 50, 25]


def test_eta_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="eta"):
        samplers.ddim(schedule.linear(5), 1.5)
