"""Initialisers (lecture 10.2–10.6).

A kernel has its inputs second to last and its outputs last; leading axes are the window of a convolution, so
fan_in = window · inputs and fan_out = window · outputs. All are float32.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.setting import number
from dlcore.types import Key

Initializer: TypeAlias = Callable[[Key, Sequence[int]], Array]
"""`(key, shape) -> float32 array`."""


def zeros(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """All 0. For biases; weights that all start at 0 stay alike (lecture 10.2)."""
    return jnp.zeros(shape, jnp.float32)


def ones(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """All 1. For the scale of a normalisation."""
    return jnp.ones(shape, jnp.float32)


def constant(value: float) -> Initializer:
    """All `value`, e.g. 0.1 for the bias of a ReLU layer that should start active (lecture 10.5)."""
    number(value, "constant: value")
    return lambda key, shape: jnp.full(shape, value, jnp.float32)


def normal(std: float) -> Initializer:
    """N(0, std²)."""
    number(std, "normal: std", "[0, ∞)")
    return lambda key, shape: std * jax.random.normal(key, shape, jnp.float32)


def uniform(scale: float) -> Initializer:
    """U(−scale, scale), variance scale²/3."""
    number(scale, "uniform: scale", "[0, ∞)")
    return lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -scale, scale)


def lecun_normal(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """Variance 1/fan_in, truncated normal: keeps the variance of a linear layer's output (LeCun et al. 1998)."""
    return jax.nn.initializers.lecun_normal()(key, tuple(shape), jnp.float32)


def lecun_uniform(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """Variance 1/fan_in, uniform (LeCun et al. 1998)."""
    return jax.nn.initializers.lecun_uniform()(key, tuple(shape), jnp.float32)


def glorot_normal(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """Variance 2/(fan_in + fan_out), truncated normal (Glorot & Bengio 2010, eq. 12)."""
    return jax.nn.initializers.glorot_normal()(key, tuple(shape), jnp.float32)


def glorot_uniform(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """Variance 2/(fan_in + fan_out), uniform (Glorot & Bengio 2010, eq. 16)."""
    return jax.nn.initializers.glorot_uniform()(key, tuple(shape), jnp.float32)


def he_normal(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """Variance 2/fan_in, truncated normal: keeps the second moment through a ReLU (He et al. 2015, eq. 10)."""
    return jax.nn.initializers.he_normal()(key, tuple(shape), jnp.float32)


def he_uniform(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """Variance 2/fan_in, uniform (He et al. 2015)."""
    return jax.nn.initializers.he_uniform()(key, tuple(shape), jnp.float32)


def he_normal_fan_out(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """N(0, 2/fan_out): keeps the second moment of gradients backward through a ReLU (He et al. 2015, eq. 14).

    Residual networks and their successors start here; fan_out = window · outputs. The normal is not truncated.
    """
    return jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")(key, tuple(shape), jnp.float32)


def orthogonal(gain: float = 1.0) -> Initializer:
    """`gain` times a random matrix with orthonormal rows or columns over the last axis (Saxe et al. 2014)."""
    number(gain, "orthogonal: gain")
    return lambda key, shape: jax.nn.initializers.orthogonal(gain)(key, tuple(shape), jnp.float32)
