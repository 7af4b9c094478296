"""The row product against NumPy, on either side of where it splits (lecture 8.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn._product import BLOCKS, MANY_ROWS, row_product


@pytest.mark.parametrize(
    "rows", [(3,), (MANY_ROWS,), (MANY_ROWS + 1,), (12, 16, 16), (7, 20, 20), (1, 50, 50), (BLOCKS, 5)]
)
def test_value_and_gradients(rows):
    rng = np.random.default_rng(0)
    x, kernel, dy = (rng.standard_normal(shape) for shape in ((*rows, 5), (5, 3), (*rows, 3)))
    y, pull = jax.vjp(row_product, jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    dx, dkernel = pull(jnp.asarray(dy, jnp.float32))
    np.testing.assert_allclose(y, x @ kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx, dy @ kernel.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dkernel, x.reshape(-1, 5).T @ dy.reshape(-1, 3), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(("rows", "blocks"), [((100, 4), 1), ((64, 64), 8), ((12, 512), 4), ((7, 1024), 1)])
def test_many_rows_are_split(rows, blocks):
    jaxpr = jax.make_jaxpr(row_product)(jnp.ones((*rows, 5)), jnp.ones((5, 3)))
    (product,) = [equation for equation in jaxpr.eqns if equation.primitive.name == "dot_general"]
    expected = (*rows, 5) if blocks == 1 else (blocks, np.prod(rows) // blocks, 5)
    assert product.invars[0].aval.shape == expected
