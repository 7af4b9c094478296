"""Every family in float32 at extreme parameters and places against mpmath with 50 digits (lecture 2.13–2.15, 3.6)."""

import itertools
import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from dlcore.stats import _continuous as continuous
from dlcore.stats import _discrete as discrete
from dlcore.stats import _special as special
from dlcore.stats import beta, entropy, js, kl, kl_coins, kl_normal, log_kl

EPS = float(np.finfo(np.float32).eps)
mp.mp.dps = 50


def f32(x):
    return np.asarray(x, np.float32)


def big(x):
    return mp.mpf(float(x))


def log_beta(a, b):
    return mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)


def beta_entropy(a, b):
    return log_beta(a, b) - (a - 1) * mp.digamma(a) - (b - 1) * mp.digamma(b) + (a + b - 2) * mp.digamma(a + b)


def beta_kl(a, b, c, d):
    mean = (a - c) * mp.digamma(a) + (b - d) * mp.digamma(b) + (c + d - a - b) * mp.digamma(a + b)
    return log_beta(c, d) - log_beta(a, b) + mean


def beta_log_prob(a, b, x):
    return (a - 1) * mp.log(x) + (b - 1) * mp.log1p(-x) - log_beta(a, b)


def concentrations(*logs):
    """Exactly what float32 parameters mean."""
    return [mp.exp(big(x)) for x in logs]


LOGS = f32([-40, -3, 0, math.log(2), 2.5, math.log(1e5), math.log(1e7), 40])
PAIRS = f32(list(itertools.product(LOGS, LOGS)))


def close(found, expected, rtol, atol):
    """Also that no gradient is NaN is looked at elsewhere; infinite is not close."""
    found, expected = np.asarray(found, np.float64), np.asarray([float(e) for e in expected])
    worst = np.abs(found - expected) / (atol + rtol * np.abs(expected))
    assert (worst <= 1).all(), (worst.max(), int(worst.argmax()), found[worst.argmax()], expected[worst.argmax()])


def as_beta(rows):
    return {"log_alpha": rows[:, 0], "log_beta": rows[:, 1]}


def finite_gradient(f, *arguments):
    gradients = jax.jit(jax.grad(lambda *a: f(*a).sum(), tuple(range(len(arguments)))))(*arguments)
    assert all(np.isfinite(g).all() for g in gradients)


def test_stirlings_remainder_and_its_slope():
    z = f32([1e-17, 1e-3, 0.5, 1, 3.3, 7.99, 8, 30, 1e5, 1e17])
    value = [mp.loggamma(big(x)) - (big(x) - 0.5) * mp.log(big(x)) + big(x) - mp.log(2 * mp.pi) / 2 for x in z]
    slope = [mp.digamma(big(x)) - mp.log(big(x)) + 1 / (2 * big(x)) for x in z]
    close(special.stirling_remainder(z), value, 4 * EPS, 1e-6)
    # (z − 1) δ′(z) enters the entropy.
    close(z * special.stirling_slope(z), [big(x) * s for x, s in zip(z, slope, strict=True)], 1e-5, 1e-6)
    with jax.enable_x64(True):
        close(special.stirling_remainder(jnp.asarray(z, jnp.float64)), value, 1e-14, 1e-14)


def test_what_is_left_of_the_exponential():
    x = f32([-80, -1, -0.5, -1e-3, -1e-10, 0, 1e-10, 1e-4, 0.499, 0.5, 3, 80])
    close(special.expm2(x), [mp.expm1(big(v)) - big(v) for v in x], 2e-6, 1e-44)
    np.testing.assert_allclose(jax.vmap(jax.grad(special.expm2))(x), np.expm1(x.astype(float)), rtol=1e-5)


@pytest.mark.slow
def test_beta_entropy_at_every_concentration():
    named = [1e5, 1e7]
    found = beta.entropy({"log_alpha": jnp.log(f32(named)), "log_beta": jnp.log(f32(named))})
    np.testing.assert_allclose(found, [-5.377, -7.680], atol=1e-3)
    expected = [beta_entropy(*concentrations(*row)) for row in PAIRS]
    # e⁴⁰ itself has a relative error of 40 units in the last place.
    close(jax.jit(lambda r: beta.entropy(as_beta(r)))(PAIRS), expected, 3e-6, 2e-6)
    finite_gradient(lambda r: beta.entropy(as_beta(r)), PAIRS)


SMALL, LARGE = np.log([1e-8, 1e-3]), np.log([0.05, 1, 200, 1e6])
FAR_APART = f32([*itertools.product(SMALL, LARGE, SMALL, LARGE), (-10.6, 4.6, -39.4, -35.2)])
"""Rows of log α, log β, log γ, log ζ with α ≪ β and γ ≪ ζ, one of them with ζ nearly 0."""
FAR_APART[::3] = FAR_APART[::3][:, [1, 0, 3, 2]]


def beta_divergence(p, q):
    return beta.kl(as_beta(p), as_beta(q))


@pytest.mark.slow
def test_beta_divergence_of_concentrations_far_apart():
    found = jax.jit(beta_divergence)(FAR_APART[:, :2], FAR_APART[:, 2:])
    close(found, [beta_kl(*concentrations(*row)) for row in FAR_APART], 2e-5, 1e-9)


def beta_slopes(a, b, c, d):
    """Derivatives of the divergence by the four logs."""
    n, m = a + b, c + d
    first = [z * ((z - w) * mp.psi(1, z) - (n - m) * mp.psi(1, n)) for z, w in ((a, c), (b, d))]
    second = [w * (mp.digamma(w) - mp.digamma(z) - mp.digamma(m) + mp.digamma(n)) for z, w in ((a, c), (b, d))]
    return first + second


def slope_rows(count):
    """Rows of log α, log β, log γ, log ζ anywhere, and others near each other."""
    rng = np.random.default_rng(count)
    rows = rng.uniform(-39.9, 39.9, (count, 4))
    steps = rng.normal(size=(count, 2)) * rng.choice([1e-4, 1e-2, 0.3, 3.0], (count, 1))
    near = np.concatenate([rows[:, :2], rows[:, :2] + steps], 1)
    return f32(np.clip(np.concatenate([rows, near]), -39.9, 39.9))


def check_slopes(rows):
    equal = f32([(a, b, a, b) for a, b in PAIRS])
    every = np.concatenate([rows, equal])
    gradient = jax.jit(jax.grad(lambda *pair: beta_divergence(*pair).sum(), (0, 1)))
    found = np.concatenate(gradient(every[:, :2], every[:, 2:]), 1)
    expected = [slope for row in rows for slope in beta_slopes(*concentrations(*row))]
    close(found[: len(rows)].ravel(), expected, 3e-4, 1e-6)
    np.testing.assert_array_equal(found[len(rows) :], 0)


@pytest.mark.slow
def test_the_slopes_of_betas_divergence_at_every_concentration():
    awkward = [(-35.4, -34.4, -36, -34.7), (-21.6, -38.6, 30.6, -36.2), (-39.9, -0.1, -0.1, 39.9), (-10, -39, 1, -9)]
    check_slopes(np.concatenate([f32(awkward), slope_rows(300)]))


def test_the_curvature_of_log_gamma():
    z = f32([1e-17, 1e-3, 0.5, 1, 4.5, 7.99, 8, 30, 1e5, 1e17])
    expected = [big(x) ** 2 * mp.psi(1, big(x)) - big(x) for x in z]
    close(special.curvature(z), expected, 5 * EPS, 0)
    with jax.enable_x64(True):
        close(special.curvature(jnp.asarray(z, jnp.float64)), expected, 1e-12, 0)


@pytest.mark.slow
def test_beta_divergence_near_and_far():
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(len(PAIRS), 2)) * rng.choice([1e-3, 1e-2, 0.3, 3.0], (len(PAIRS), 1))
    others = f32(np.clip(PAIRS + steps, -40, 40))
    found = jax.jit(beta_divergence)(PAIRS, others)
    expected = [beta_kl(*concentrations(*p, *q)) for p, q in zip(PAIRS, others, strict=True)]
    close(found, expected, 1e-3, 1e-7)
    far = np.array([float(e) for e in expected]) > 1e-2
    np.testing.assert_allclose(np.asarray(found)[far], [float(e) for e in np.array(expected)[far]], rtol=1e-4)
    np.testing.assert_array_equal(beta_divergence(PAIRS, PAIRS), 0)
    rows = np.concatenate([np.concatenate([PAIRS, others], 1), FAR_APART])
    finite_gradient(beta_divergence, rows[:, :2], rows[:, 2:])


@pytest.mark.slow
def test_beta_density_within_the_error_of_its_arguments():
    rows = []
    for a, b in PAIRS.astype(float):
        alpha, rest = math.exp(a), math.exp(b)
        mean = alpha / (alpha + rest)
        std = math.sqrt(mean * (1 - mean) / (alpha + rest + 1))
        rows += [(a, b, x) for x in f32([mean, mean + std, mean - 4 * std, 0.5, 1e-6, 1 - 1e-6]) if 0 < x < 1]
    rows = f32(rows)
    found = jax.jit(lambda r: beta.log_prob(as_beta(r), r[:, 2]))(rows)
    for (a, b, x), value in zip(rows.astype(float), np.asarray(found, float), strict=True):
        (alpha, rest), x = concentrations(a, b), big(x)
        expected = beta_log_prob(alpha, rest, x)
        # What one unit in the last place of x, log α and log β changes.
        to_x = x * ((alpha - 1) / x - (rest - 1) / (1 - x))
        to_a = a * alpha * (mp.log(x) - mp.digamma(alpha) + mp.digamma(alpha + rest))
        to_b = b * rest * (mp.log1p(-x) - mp.digamma(rest) + mp.digamma(alpha + rest))
        allowed = 2 * EPS * (1 + abs(expected) + abs(to_x) + abs(to_a) + abs(to_b)) + 2e-6
        assert abs(value - expected) <= 4 * allowed, (a, b, float(x), value, float(expected))
    finite_gradient(lambda r: beta.log_prob(as_beta(r), r[:, 2]), rows)


@pytest.mark.parametrize("log_a", [-40.0, math.log(1e5), math.log(1e7)])
def test_beta_draws_have_its_moments(log_a):
    x = np.asarray(beta.sample(jax.random.key(0), {"log_alpha": log_a, "log_beta": log_a}, (20_000,)), float)
    n = 2 * math.exp(log_a)
    std = math.sqrt(0.25 / (n + 1))
    assert abs(x.mean() - 0.5) < 4 * std / math.sqrt(20_000) and x.std() == pytest.approx(std, rel=0.03)


SCALES = f32([-40, -20, -1, 0, 3, 20, 40])


@pytest.mark.parametrize("family", [continuous.normal, continuous.laplace, continuous.logistic])
def test_location_and_scale(family):
    z = f32([0, 1e-6, 1, -30, 500])
    s, z = (f32(v).ravel() for v in np.meshgrid(SCALES, z))
    mean = f32(0.25) * np.exp(s)
    x = mean + z * np.exp(s)
    density = {
        continuous.normal: lambda z: -z * z / 2 - mp.log(2 * mp.pi) / 2,
        continuous.laplace: lambda z: -abs(z) - mp.log(2),
        continuous.logistic: lambda z: -abs(z) - 2 * mp.log1p(mp.exp(-abs(z))),
    }[family]
    expected = [density((big(a) - big(m)) / mp.exp(big(b))) - big(b) for a, m, b in zip(x, mean, s, strict=True)]
    found = jax.jit(lambda m, s, x: family.log_prob({"mean": m, "log_scale": s}, x))(mean, s, x)
    close(found, expected, 1e-5, 1e-5)
    finite_gradient(lambda m, s: family.entropy({"mean": m, "log_scale": s}), mean, s)
    if family is not continuous.logistic:
        small = f32(np.where(s < 40, s + 1e-3, s - 1e-3))
        tiny = family.kl({"mean": mean, "log_scale": small}, {"mean": mean, "log_scale": s})
        gaps = [big(a) - big(b) for a, b in zip(small, s, strict=True)]
        factor = 2 if family is continuous.normal else 1
        close(tiny, [(mp.expm1(factor * g) - factor * g) / factor for g in gaps], 1e-5, 0)


def test_the_density_of_laplace_has_slope_zero_at_its_peak():
    params = {"mean": 0.5, "log_scale": 0.0}
    assert float(jax.grad(lambda x: continuous.laplace.log_prob(params, x))(0.5)) == 0
    assert float(jax.grad(lambda m: continuous.laplace.log_prob({**params, "mean": m}, 0.5))(0.5)) == 0
    assert float(jax.grad(lambda m: continuous.laplace.kl(params, {**params, "mean": m}))(0.5)) == 0


def test_equal_normals_of_a_scale_beyond_float32_are_equal():
    for log_std in (-200.0, -100.0, 100.0):
        found, gradient = jax.value_and_grad(lambda m, s=log_std: kl_normal(m, s, 0.3, s))(0.3)
        assert float(found) == 0 and not np.isnan(gradient)


LOGITS = f32([-80, -20, -1, -1e-4, 0, 1e-4, 3, 20, 80])


@pytest.mark.slow
def test_bernoulli_at_extreme_logits():
    a, b = (f32(v).ravel() for v in np.meshgrid(LOGITS, LOGITS))

    def logs(x):
        return -mp.log1p(mp.exp(-big(x))), -mp.log1p(mp.exp(big(x)))

    def divergence(x, y):
        return sum(mp.exp(p) * (p - q) for p, q in zip(logs(x), logs(y), strict=True))

    expected = [divergence(x, y) for x, y in zip(a, b, strict=True)]
    close(discrete.bernoulli.kl({"logit": a}, {"logit": b}), expected, 1e-5, 1e-9)
    close(kl_coins(a, b - a), expected, 1e-5, 1e-38)
    close(discrete.bernoulli.log_prob({"logit": a}, 1), [logs(x)[0] for x in a], 1e-6, 0)
    close(discrete.bernoulli.entropy({"logit": a}), [-sum(mp.exp(p) * p for p in logs(x)) for x in a], 1e-6, 0)
    finite_gradient(lambda a, b: discrete.bernoulli.kl({"logit": a}, {"logit": b}), a, b)
    finite_gradient(kl_coins, a, b)


@pytest.mark.slow
def test_categorical_at_extreme_logits():
    rows = f32([[20, 0, -20], [80, 80, 0], [1e4, -1e4, 0], [-1e30, 0, 1], [0, 0, 0], [40, 0, 39.999]])
    expected = []
    for row in rows:
        total = mp.log(sum(mp.exp(big(a)) for a in row))
        expected.append([big(a) - total for a in row])
    found = discrete.categorical.log_prob({"logits": rows[:, None]}, np.arange(3))
    close(np.ravel(found), [e for row in expected for e in row], 1e-6, 1e-45)
    close(
        discrete.categorical.entropy({"logits": rows}),
        [-sum(mp.exp(p) * p for p in row) for row in expected],
        1e-5,
        1e-45,
    )
    moved = f32(rows + f32([1e-3, 0, 0]))
    for row, other in zip(rows[4:], moved[4:], strict=True):
        p, q = ([big(a) - mp.log(sum(mp.exp(big(b)) for b in r)) for a in r] for r in (row, other))
        exact = sum(mp.exp(x) * (x - y) for x, y in zip(p, q, strict=True))
        got = discrete.categorical.kl({"logits": row}, {"logits": other})
        assert float(got) == pytest.approx(float(exact), rel=1e-3)
    np.testing.assert_allclose(jax.jacobian(special.log_softmax)(rows[5]), np.eye(3) - _softmax(rows[5]), atol=1e-6)
    finite_gradient(lambda a: discrete.categorical.entropy({"logits": a}), rows)


def _softmax(a):
    weights = np.exp(a.astype(float) - a.max())
    return weights / weights.sum()


@pytest.mark.slow
@pytest.mark.parametrize("log_p", [-9.0, -14.0, -18.0])
def test_rare_outcomes_are_drawn_as_rarely_as_they_say(log_p):
    draws, expected = 4_000_000, 4_000_000 * math.exp(log_p)
    logit = log_p - math.log1p(-math.exp(log_p))
    once = discrete.bernoulli.sample(jax.random.key(0), {"logit": logit}, (draws,)).sum()
    other = (discrete.categorical.sample(jax.random.key(1), {"logits": f32([logit, 0])}, (draws,)) == 0).sum()
    for count in (int(once), int(other)):
        assert abs(count - expected) < 5 * math.sqrt(expected) + 2


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_discretised_logistic_at_tiny_and_huge_scales(levels):
    log_scales, means = f32([-30, -17, -7, -2, 0, 5, 30]), f32([0, 0.3, -1, 1.5])
    s, m = (f32(v).ravel() for v in np.meshgrid(log_scales, means))
    family = discrete.discretized_logistic(levels)
    places = sorted({0, 1, levels // 2 - 1, levels // 2, levels - 1})
    found = jax.jit(lambda m, s: family.log_prob({"mean": m, "log_scale": s}, np.array(places)[:, None]))(m, s)
    for row, k in zip(np.asarray(found), places, strict=True):
        for value, mean, log_scale in zip(row, m, s, strict=True):
            edges = [(mp.mpf(2 * k + side) / (levels - 1) - 1 - big(mean)) / mp.exp(big(log_scale)) for side in (1, -1)]
            if k == 0:
                expected = -mp.log1p(mp.exp(-edges[0]))
            elif k == levels - 1:
                expected = -mp.log1p(mp.exp(edges[1]))
            else:
                # The symmetric one of the two tails, in which nothing cancels.
                tails = [1 / (1 + mp.exp(e if edges[1] > 0 else -e)) for e in edges]
                expected = mp.log(abs(tails[1] - tails[0])) if tails[0] != tails[1] else None
            if expected is not None:
                scaled = float(abs(edges[0]) + abs(edges[1]))
                assert abs(value - expected) <= 4 * EPS * (scaled + abs(expected) + 30) + 1e-6, (k, mean, log_scale)
    halves = discrete.discretized_logistic(256).log_prob({"mean": 0.0, "log_scale": -25.0}, np.array([127, 128]))
    np.testing.assert_allclose(halves, [math.log(0.5)] * 2, rtol=1e-5)
    draws = discrete.discretized_logistic(4).sample(jax.random.key(0), {"mean": 0.0, "log_scale": 300.0}, (2000,))
    assert set(np.unique(draws)) == {0, 3}


def test_tiny_masses():
    p = f32([2e-38, 1e-30, 1e-7, 1 - 1e-7])
    q = f32([1e-7, 2e-38, 1e-30, 1 - 1e-7])

    def exact(p, q):
        return sum(big(a) * mp.log(big(a) / big(b)) for a, b in zip(p, q, strict=True))

    assert float(entropy(p)) == pytest.approx(float(-sum(big(a) * mp.log(big(a)) for a in p)), rel=1e-5)
    assert float(kl(p, q)) == pytest.approx(float(exact(p, q)), rel=1e-5)
    middle = [(big(a) + big(b)) / 2 for a, b in zip(p, q, strict=True)]
    assert float(js(p, q)) == pytest.approx(float((exact(p, middle) + exact(q, middle)) / 2), rel=1e-5)
    assert all(np.isfinite(g).all() for f in (kl, js) for g in jax.grad(f, (0, 1))(jnp.asarray(p), jnp.asarray(q)))


def test_near_equal_masses():
    p = f32([0.2, 0.3, 0.5])
    q = f32(p + f32([2**-12, -(2**-13), -(2**-13)]))
    exact = float(sum(big(a) * mp.log(big(a) / big(b)) for a, b in zip(p, q, strict=True)))
    assert float(kl(p, q)) == pytest.approx(exact, rel=1e-2) and exact < 3e-7
    assert 0 < float(js(p, q)) == pytest.approx(exact / 4, rel=2e-2)
    assert float(log_kl(jnp.log(p), jnp.log(q))) == pytest.approx(exact, rel=1e-2)


def test_full_normal_divergence_keeps_small_values():
    raw = f32([[0.1, 0, 0], [0.5, -3, 0], [2, -1, 4]])
    p = {"mean": f32([1, 2, 3]), "log_cholesky": raw}
    assert float(continuous.full_normal.kl(p, p)) == pytest.approx(0, abs=1e-10)
    q = {"mean": f32(p["mean"] + 1e-4), "log_cholesky": f32(raw + 1e-4)}
    mean, other = (x["mean"].astype(float) for x in (q, p))
    double = [x["log_cholesky"].astype(float) for x in (q, p)]
    a, b = (np.tril(L, -1) + np.diag(np.exp(np.diag(L))) for L in double)
    ratio, shift = np.linalg.solve(b, a), np.linalg.solve(b, other - mean)
    exact = 0.5 * ((ratio**2).sum() + shift @ shift - 3) - np.log(np.diag(ratio)).sum()
    assert float(continuous.full_normal.kl(q, p)) == pytest.approx(exact, rel=1e-2) and exact < 1e-4


def test_no_density_of_nan():
    for family, params in (
        (continuous.normal, {"mean": 0.0, "log_scale": 0.0}),
        (beta, {"log_alpha": 0.0, "log_beta": 0.0}),
        (discrete.bernoulli, {"logit": 0.0}),
        (discrete.categorical, {"logits": np.zeros(3)}),
        (discrete.discretized_logistic(4), {"mean": 0.0, "log_scale": 0.0}),
    ):
        assert np.isnan(family.log_prob(params, np.nan))
