"""The He initialiser that keeps the size of gradients (lecture 10.4)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.types import Key


def he_normal_fan_out(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """N(0, 2/fan_out): keeps the second moment of gradients backward through a ReLU (He et al. 2015, eq. 14).

    Residual networks and their successors start here; fan_out = window · outputs. The normal is not truncated.
    """
    return jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")(key, tuple(shape), jnp.float32)
