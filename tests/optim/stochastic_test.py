"""Stochastic descent against running means, exact descent and the noise that theory predicts (lecture 6.1–6.4)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.optim import gradient_descent, minimize, run, stochastic_descent, surfaces, transforms

DATA = jnp.asarray(np.random.default_rng(0).normal(2.0, 1.0, size=(200, 2)), jnp.float32)
KEY = jax.random.key(3)


def drawn(key, size=4):
    return DATA[jax.random.randint(key, (size,), 0, len(DATA))]


def distance(theta, key):
    """An estimate of ½ E‖θ − x‖², least at the mean of the data."""
    return 0.5 * jnp.square(theta - drawn(key)).sum(-1).mean()


@pytest.mark.slow
def test_rates_of_one_over_k_give_the_mean_of_all_that_was_drawn():
    # θ_{k+1} = θ_k − (θ_k − x̄_k)/(k + 1) is the running mean, whatever θ_0.
    method = stochastic_descent(transforms.sgd(lambda k: 1 / (k + 1.0)))
    found = minimize(method, distance, jnp.asarray([7.0, -9.0]), steps=50, gradient_tolerance=0.0, key=KEY)
    means = np.stack([drawn(jax.random.fold_in(KEY, k)).mean(0) for k in range(50)])
    expected = np.cumsum(means, 0) / np.arange(1, 51)[:, None]
    np.testing.assert_allclose(found.trace.points[1:], expected, rtol=1e-4, atol=1e-4)
    assert (found.reason, found.evaluations) == ("budget", 51)


def test_what_is_reported_are_averages_over_the_way():
    method = stochastic_descent(transforms.sgd(0.1), decay=0.8)
    found = minimize(method, distance, jnp.zeros(2), steps=9, key=KEY)
    points = jnp.asarray(found.trace.points)
    pairs = [jax.value_and_grad(distance)(x, jax.random.fold_in(KEY, k)) for k, x in enumerate(points)]
    weights = 0.8 ** np.arange(9, -1, -1)
    values, gradients = (np.average(np.array(part), axis=0, weights=weights) for part in zip(*pairs, strict=True))
    assert found.value == pytest.approx(values, rel=1e-5)
    assert found.trace.gradient_norms[-1] == pytest.approx(np.linalg.norm(gradients), rel=1e-5)
    assert found.trace.gradient_norms[0] == pytest.approx(np.linalg.norm(pairs[0][1]), rel=1e-5)


def test_without_noise_it_is_gradient_descent():
    f, x0 = surfaces.booth().f, jnp.asarray([-4.0, -2.0])
    exact = minimize(gradient_descent(0.05), f, x0, steps=30)
    method = stochastic_descent(optax.sgd(0.05), decay=0.0)
    found = minimize(method, lambda x, key: f(x), x0, steps=30, key=KEY)
    for ours, theirs in zip(found.trace, exact.trace, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert found.reason == exact.reason


def test_it_stops_where_the_averaged_gradient_is_small_and_a_single_one_is_not():
    method = stochastic_descent(transforms.sgd(0.02), decay=0.99)
    found = minimize(method, distance, jnp.zeros(2), steps=2000, gradient_tolerance=0.05, key=KEY)
    assert found.reason == "gradient" and 100 < found.steps < 2000
    np.testing.assert_allclose(found.x, DATA.mean(0), atol=0.2)
    # Of one batch: √(σ²/k) for the sum of both coordinates' variances.
    assert np.sqrt(np.asarray(DATA).var(0).sum() / 4) > 10 * 0.05


@pytest.mark.slow
def test_a_constant_rate_ends_in_a_neighbourhood_that_falling_rates_shrink():
    def ends(rate):
        method = stochastic_descent(transforms.sgd(rate))

        def one(key):
            options = {"steps": 400, "gradient_tolerance": 0.0, "keep_points": False}
            return run(method, distance, jnp.zeros(2), key=key, **options).x

        return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(KEY, 200)))

    variance = np.asarray(DATA).var(0).mean() / 4
    for rate in (0.1, 0.4):
        # Stationary variance ε²s/(1 − (1 − ε)²) = ε s/(2 − ε) of θ ← (1 − ε)θ + ε x̄, Var x̄ = s.
        assert ends(rate).var(0).mean() == pytest.approx(rate / (2 - rate) * variance, rel=0.2)
    assert ends(lambda k: 1 / (k + 1.0)).var(0).mean() == pytest.approx(variance / 400, rel=0.2)


def test_bad_input():
    method = stochastic_descent(transforms.sgd(0.1))
    with pytest.raises(ValueError, match="pass key"):
        minimize(method, distance, jnp.zeros(2), steps=1)
    with pytest.raises(ValueError, match="a scalar"):
        minimize(method, lambda x, key: x, jnp.zeros(2), steps=1, key=KEY)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        stochastic_descent(transforms.sgd(0.1), decay=1.0)

    def bounded(x, key):
        return 30 * jnp.where(x[0] < 1, x[0] ** 2, jnp.nan)

    lost = minimize(method, bounded, jnp.full(2, 0.9), steps=9, key=KEY)
    assert lost.reason == "diverged" and np.isfinite(lost.trace.values).all() and np.isfinite(lost.x).all()
