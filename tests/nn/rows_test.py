"""Sums over rows and their adjoint against NumPy in float64 and against plain broadcasting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import _rows as way
from dlcore.nn import equations, spread_space
from dlcore.nn._rows import spread, sum_rows, sum_space

SHAPES = [(2, 8, 8, 3), (32, 7), (4,), (3, 17, 19, 2), (1, 37, 2), (2, 3, 4, 5, 6), (0, 4, 3)]


@pytest.fixture(autouse=True, params=[True, False], ids=["slabs", "plain"])
def slabs(request, monkeypatch):
    """Both ways: that of one device, and the plain one that the eight of the tests get."""
    monkeypatch.setattr(way, "by_slabs", lambda: request.param)
    return request.param


def arrays(shape):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal(shape, np.float32)), jnp.asarray(rng.standard_normal(shape[-1:], np.float32))


def ours(v, x):
    rows = x.shape[:-1]
    return jnp.sum(jnp.sin(x * spread(v, rows) + spread(sum_rows(jnp.square(x)) / x.size, rows)))


def plain(v, x):
    return jnp.sum(jnp.sin(x * v + jnp.square(x).sum(tuple(range(x.ndim - 1))) / x.size))


@pytest.mark.sampled
@pytest.mark.parametrize("shape", SHAPES)
def test_sum_is_numpys(shape):
    x, _ = arrays(shape)
    expected = np.asarray(x, np.float64).reshape(-1, shape[-1]).sum(0)
    np.testing.assert_allclose(sum_rows(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_derivatives_of_both_modes_and_orders_are_those_of_broadcasting(shape):
    x, v = arrays(shape)
    for transform in (jax.grad, jax.jacfwd):
        for found, expected in zip(transform(ours, (0, 1))(v, x), transform(plain, (0, 1))(v, x), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.hessian(ours)(v, x), jax.hessian(plain)(v, x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_batch_of_them_is_each_of_them():
    x, v = arrays((5, 2, 6, 3))
    found = jax.vmap(jax.grad(ours), (None, 0))(v, x)
    np.testing.assert_allclose(found, jnp.stack([jax.grad(ours)(v, one) for one in x]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("space", [(5,), (8, 6), (7, 7), (17, 1), (2, 3, 4)])
def test_sums_over_positions_and_their_adjoint(space):
    rng = np.random.default_rng(1)
    x, v = (jnp.asarray(rng.standard_normal(s, np.float32)) for s in ((3, *space, 2), (3, 2)))
    axes = tuple(range(1, x.ndim - 1))
    np.testing.assert_allclose(sum_space(x), np.asarray(x, np.float64).sum(axes), rtol=1e-5, atol=1e-5)

    def ours(v, x):
        return jnp.sum(jnp.sin(x * spread_space(v + sum_space(jnp.square(x)) / x.size, space)))

    def plain(v, x):
        return jnp.sum(jnp.sin(x * jnp.expand_dims(v + jnp.square(x).sum(axes) / x.size, axes)))

    for found, expected in zip(jax.grad(ours, (0, 1))(v, x), jax.grad(plain, (0, 1))(v, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    for found, expected in zip(jax.jvp(ours, (v, x), (v, x)), jax.jvp(plain, (v, x), (v, x)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_numbers_add_up_in_float32(dtype):
    x = jnp.ones((8, 32, 32, 3), dtype)
    assert sum_rows(x).dtype == jnp.float32 and (sum_rows(x) == 8192).all()
    gradient = jax.grad(lambda v: spread(v, (8, 32, 32)).astype(dtype).astype(jnp.float32).sum())(jnp.zeros(3))
    assert (gradient == 8192).all()
    gradient = jax.grad(lambda v: jnp.sum(spread(v, (8, 32, 32)), dtype=jnp.float32))(jnp.zeros(3, dtype))
    assert gradient.dtype == dtype and (gradient == 8192).all()


def test_the_gradient_of_a_bias_is_no_loop_over_columns_on_one_cpu_device(slabs):
    """XLA's own takes ten times as long as reading the array."""

    def gradient(dy):
        return jax.vjp(lambda v: spread(v, dy.shape[:-1]), jnp.zeros(3))[1](dy)

    names = {equation.primitive.name for equation, *_ in equations(jax.make_jaxpr(gradient)(jnp.zeros((4, 16, 16, 3))))}
    assert ("reduce_sum" not in names and "add_any" in names) == slabs
