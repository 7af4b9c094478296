"""Discretised logistic: masses against scipy's distribution function, sums, draws, extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dlcore.stats import _discretized as discretized

LEVELS = 256
PARAMS = [(0.1, -2.0), (-0.9, -4.0), (1.3, -1.0), (0.0, 0.5)]


def masses(mean, log_scale, levels=LEVELS):
    k = jnp.arange(levels)
    full = jnp.full(levels, mean, jnp.result_type(float)), jnp.full(levels, log_scale, jnp.result_type(float))
    return np.exp(np.asarray(discretized.logistic_log_mass(k, *full, levels), np.float64))


@pytest.mark.parametrize(("mean", "log_scale"), PARAMS)
def test_masses_are_differences_of_the_distribution_function(mean, log_scale):
    edges = (2 * np.arange(LEVELS - 1) + 1) / (LEVELS - 1) - 1
    cdf = scipy.stats.logistic(mean, np.exp(log_scale)).cdf(edges)
    expected = np.diff(np.concatenate([[0], cdf, [1]]))
    with jax.enable_x64(True):
        np.testing.assert_allclose(masses(mean, log_scale), expected, rtol=1e-7, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "log_scale"), [*PARAMS, (0.3, -7.0), (40.0, -7.0), (0.0, 5.0)])
def test_masses_sum_to_one(mean, log_scale):
    assert masses(mean, log_scale).sum() == pytest.approx(1, abs=1e-5)
    with jax.enable_x64(True):
        assert masses(mean, log_scale, 17).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("mean", [0.0, 1e4, -1e15])
@pytest.mark.parametrize("log_scale", [-300.0, -30.0, -7.0, 0.0, 30.0, 300.0])
@pytest.mark.parametrize("level", [0, 7, 255])
def test_value_and_gradient_are_finite_anywhere(mean, log_scale, level):
    def f(m, s):
        return discretized.logistic_log_mass(jnp.int32(level), m, s, LEVELS)

    value, gradient = jax.value_and_grad(f, (0, 1))(jnp.float32(mean), jnp.float32(log_scale))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def mixture():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(x, jnp.float32) for x in (rng.normal(size=3), [-0.5, 0.2, 0.9], [-2.0, -3.0, -1.0]))


@pytest.mark.slow
def test_mixture_is_the_weighted_sum_and_its_mean_and_draws_agree():
    logits, mean, log_scale = mixture()
    levels = 33
    k = jnp.arange(levels)
    mass = np.exp(discretized.mixture_log_mass(k, *(jnp.broadcast_to(x, (levels, 3)) for x in mixture()), levels))
    parts = np.stack([masses(float(m), float(s), levels) for m, s in zip(mean, log_scale, strict=True)])
    np.testing.assert_allclose(mass, np.asarray(jax.nn.softmax(logits)) @ parts, rtol=1e-3, atol=1e-6)
    expected = (mass * np.arange(levels)).sum()
    assert float(discretized.mixture_mean(logits, mean, log_scale, levels)) == pytest.approx(expected, rel=1e-4)
    many = [jnp.broadcast_to(x, (40_000, 3)) for x in mixture()]
    draws = np.asarray(discretized.mixture_sample(jax.random.key(0), *many, levels))
    counts, likely = np.bincount(draws, minlength=levels), np.float64(mass) / np.float64(mass).sum()
    keep = likely * 40_000 > 5
    assert scipy.stats.chisquare(counts[keep], likely[keep] / likely[keep].sum() * counts[keep].sum()).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("logit", [0.0, 1e4])
@pytest.mark.parametrize("log_scale", [-300.0, -7.0, 300.0])
@pytest.mark.parametrize("level", [0, 100, 255])
def test_a_mixture_is_finite_anywhere(logit, log_scale, level):
    arguments = jnp.asarray([logit, -logit]), jnp.asarray([0.3, -1e4]), jnp.asarray([log_scale, -log_scale])
    loss = lambda *p: discretized.mixture_log_mass(jnp.int32(level), *p, LEVELS)  # noqa: E731
    value, gradients = jax.value_and_grad(loss, (0, 1, 2))(*arguments)
    assert np.isfinite(value) and value <= 1e-6 and all(np.isfinite(g).all() for g in gradients)


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "log_scale"), PARAMS)
@pytest.mark.parametrize("level", [0, 3, 140, 255])
def test_gradients_are_those_of_the_difference_of_distribution_functions(mean, log_scale, level):
    # Right of the mean the difference is taken between the tails, where it does not vanish beside 1.
    side = 1 if 2 * level / (LEVELS - 1) - 1 < mean else -1

    def plain(m, s):
        centre = 2 * level / (LEVELS - 1) - 1 - m
        edges = [side * (centre + k / (LEVELS - 1)) * jnp.exp(-s) for k in (side, -side)]
        high, low = (jax.nn.sigmoid(edge) for edge in edges)
        high = 1.0 if level == (LEVELS - 1 if side == 1 else 0) else high
        low = 0.0 if level == (0 if side == 1 else LEVELS - 1) else low
        return jnp.log(high - low)

    with jax.enable_x64(True):
        m, s = jnp.float64(mean), jnp.float64(log_scale)
        ours = jax.grad(lambda m, s: discretized.logistic_log_mass(jnp.int32(level), m, s, LEVELS), (0, 1))(m, s)
        np.testing.assert_allclose(ours, jax.grad(plain, (0, 1))(m, s), rtol=1e-6)


def test_the_edges_take_all_mass_beyond_them():
    # At a mean far outside, nearly all mass lies beyond the edge.
    assert masses(-3.0, -2.0)[0] == pytest.approx(1, abs=1e-5)
    assert masses(3.0, -2.0)[-1] == pytest.approx(1, abs=1e-5)
    outside = jnp.full((50, 1), 9.0)
    draws = discretized.mixture_sample(jax.random.key(0), jnp.zeros((50, 1)), outside, jnp.zeros((50, 1)), LEVELS)
    assert draws.dtype == jnp.int32 and (np.asarray(draws) == LEVELS - 1).mean() > 0.9
