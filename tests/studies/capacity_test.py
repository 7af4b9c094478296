"""Capacity, bias and variance on problems whose truth is known (lecture 1.4–1.6, 3.5, 8.7)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from dlcore.stats import summarize
from dlcore.studies import approximate, bumps, fit_degrees, fit_ridge, legendre, predict, problem, truth

DEGREE = 14


def test_legendre_is_that_of_numpy():
    x = np.linspace(-1, 1, 9)
    expected = np.polynomial.legendre.legvander(x, DEGREE) * np.sqrt(2 * np.arange(DEGREE + 1) + 1)
    np.testing.assert_allclose(legendre(jnp.asarray(x, jnp.float32), DEGREE), expected, rtol=1e-4, atol=1e-5)
    assert legendre(jnp.ones(3), 0).shape == (3, 1)


@pytest.mark.slow
def test_nested_fits_are_those_of_numpy_one_by_one():
    with jax.enable_x64(True):
        x, y = problem(jax.random.key(0), 24, 0.3)
        weight = jnp.arange(24) % 4 != 0
        found = fit_degrees(x, y, 9, weight=weight.astype(x.dtype))
        values = predict(found, x)
    x, y, weight = np.asarray(x), np.asarray(y), np.asarray(weight)
    for degree in range(10):
        expected = np.polynomial.Polynomial.fit(x[weight], y[weight], degree)
        np.testing.assert_allclose(values[degree], expected(x), rtol=1e-8, atol=1e-8)
        assert not np.asarray(found[degree, degree + 1 :]).any()


def test_ridge_is_that_of_scikit_learn():
    with jax.enable_x64(True):
        x, y = problem(jax.random.key(1), 12, 0.3)
        penalties = jnp.array([1e-3, 1.0, 100.0])
        found, design = np.asarray(fit_ridge(x, y, 15, penalties)), np.asarray(legendre(x, 15))
    for row, penalty in zip(found, (1e-3, 1.0, 100.0), strict=True):
        np.testing.assert_allclose(row, Ridge(penalty, fit_intercept=False).fit(design, np.asarray(y)).coef_, atol=1e-8)


@pytest.fixture(scope="module")
def sets():
    """Predictions [sets, degrees, grid] and training errors [sets, degrees] of 200 training sets."""
    with jax.enable_x64(True):
        grid = jnp.linspace(-1, 1, 101)

        def one(key):
            x, y = problem(key, 30, 0.4)
            fits = fit_degrees(x, y, DEGREE)
            return predict(fits, grid), jnp.square(predict(fits, x) - y).mean(-1)

        predictions, errors = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 200))
        return np.asarray(predictions), np.asarray(errors), np.asarray(truth(grid))


def test_training_error_never_rises_and_test_error_is_a_u(sets):
    predictions, train, target = sets
    assert (np.diff(train, axis=1) <= 1e-12).all()
    test = np.median(np.square(predictions - target).mean(-1), axis=0)
    best = test.argmin()
    assert 3 <= best <= 9 and test[0] > 2 * test[best] and test[-1] > 2 * test[best]


def test_error_is_bias_squared_plus_variance(sets):
    predictions, _, target = sets
    with jax.enable_x64(True):
        found = summarize(jnp.asarray(predictions), jnp.broadcast_to(target, predictions.shape[1:]))
        found = jax.tree.map(np.asarray, found)
    np.testing.assert_allclose(found.bias**2 + found.variance, found.mse, rtol=1e-9)
    np.testing.assert_allclose(found.variance, predictions.var(0), rtol=1e-9)
    # Capacity trades one for the other.
    bias_squared, variance = (found.bias**2).mean(-1), found.variance.mean(-1)
    assert bias_squared[0] > 10 * bias_squared[9] and variance[9] > 5 * variance[0]


@pytest.mark.slow
def test_error_falls_with_width():
    found = approximate(jax.random.key(0), bumps, (1, 4, 16), points=64, starts=2, steps=300)
    assert found.rms[0] > 1.5 * found.rms[1] > 2 * found.rms[2]
    assert (found.largest >= found.rms).all()
    error = found.values - bumps(jnp.linspace(-1, 1, 64))
    np.testing.assert_allclose(jnp.sqrt((error**2).mean(-1)), found.rms, rtol=1e-5)


def test_bad_input():
    x = jnp.linspace(-1, 1, 4)
    with pytest.raises(ValueError, match="degree 4"):
        fit_degrees(x, x, 4)
    with pytest.raises(ValueError, match="negative"):
        legendre(x, -1)
    with pytest.raises(ValueError, match="widths"):
        approximate(jax.random.key(0), bumps, ())
