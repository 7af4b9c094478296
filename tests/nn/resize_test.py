"""Changes of resolution, pixel by pixel."""

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
