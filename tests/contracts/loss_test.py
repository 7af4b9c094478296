"""What every loss owes: unreduced, `where=`, finite gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract_table import LOSSES

CASES = pytest.mark.parametrize("name", LOSSES)


def arguments(name):
    loss, prediction, target, shape = LOSSES[name]
    x = jax.random.normal(jax.random.key(0), prediction)
    integer = name == "softmax_cross_entropy"
    y = jnp.arange(target[0]) % 3 if integer else jax.random.uniform(jax.random.key(1), target)
    return loss, x, y, shape


@pytest.mark.sampled
@CASES
def test_unreduced(name):
    loss, x, y, shape = arguments(name)
    whole = loss(x, y)
    assert whole.shape == shape
    np.testing.assert_allclose(loss(x[2:4], y[2:4]), whole[2:4], rtol=1e-6)


@pytest.mark.sampled
@CASES
def test_where_drops_values_and_gradients_even_of_nan(name):
    loss, x, y, shape = arguments(name)
    where = jnp.broadcast_to((jnp.arange(6) != 2).reshape(6, *[1] * (len(shape) - 1)), shape)
    bad = x.at[2].set(jnp.nan)
    np.testing.assert_allclose(loss(bad, y, where=where), np.where(where, loss(x, y), 0), rtol=1e-6)
    gradient = jax.grad(lambda x: loss(x, y, where=where).sum())(bad)
    assert jnp.isfinite(gradient).all() and (gradient[2] == 0).all() and (gradient[:2] != 0).any()


@CASES
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_finite_at_extremes(name, size):
    loss, x, y, _ = arguments(name)
    value, gradient = jax.value_and_grad(lambda x: loss(x, y).sum())(jnp.full_like(x, size).at[:, 0].set(0))
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
