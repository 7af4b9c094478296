"""Layers that Linen does not have."""

import jax
from flax import linen


class PositionBias(linen.Module):
    """A learned number per position and channel."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x + b."""
        return x + self.param("bias", linen.initializers.zeros, x.shape[1:])
