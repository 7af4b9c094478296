"""Changes of resolution, pixel by pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import upsample


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_every_pixel_becomes_a_square(factor):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32)
    expected = np.kron(x.transpose(0, 3, 1, 2), np.ones((factor, factor))).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(upsample(jnp.asarray(x), factor), expected.astype(np.float32))
    with pytest.raises(ValueError, match="factor"):
        upsample(jnp.asarray(x), 0)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_pixel_has_the_sum_of_its_squares_gradients(factor):
    rng = np.random.default_rng(0)
    x, along = (jnp.asarray(rng.normal(size=(2, 3, 4, 2)), jnp.float32) for _ in range(2))
    dy = rng.normal(size=(2, 3 * factor, 4 * factor, 2)).astype(np.float32)
    _, back = jax.vjp(lambda x: upsample(x, factor), x)
    exact = dy.astype(np.float64).reshape(2, 3, factor, 4, factor, 2).sum((2, 4))
    np.testing.assert_allclose(back(jnp.asarray(dy))[0], exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(jax.jvp(lambda x: upsample(x, factor), (x,), (along,))[1], upsample(along, factor))
