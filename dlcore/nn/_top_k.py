"""The largest units of a code, for k-sparse autoencoders (lecture 21.1)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn._function import Function
from dlcore.setting import Size, whole
from dlcore.types import Model


def keep_largest(h: Float[Array, "*b n"], k: Size) -> Float[Array, "*b n"]:
    """h with all but its k largest entries along the last axis set to 0 (Makhzani & Frey 2014, algorithm 1).

    Largest by value, not by magnitude; of equal ones the first are kept, so that k units are kept whatever the ties.
    The gradient passes through those that are kept. Raises `ValueError` unless 1 ≤ k ≤ n.

    >>> import jax.numpy as jnp
    >>> keep_largest(jnp.array([0.5, -3.0, 0.5, 2.0]), 2)
    Array([0.5, 0. , 0. , 2. ], dtype=float32)
    """
    k = whole(k, "keep_largest: k")
    if k > h.shape[-1]:
        raise ValueError(f"keep_largest: k={k} of {h.shape[-1]} units; use 1 to {h.shape[-1]}")
    _, index = jax.lax.top_k(h, k)
    kept = jax.nn.one_hot(index, h.shape[-1], dtype=bool).any(-2)
    return jnp.where(kept, h, jnp.zeros_like(h))


def KeepLargest(k: Size) -> Model:
    """Layer of `keep_largest`, in training as in inference."""
    k = whole(k, "KeepLargest: k")
    return Function(lambda h: keep_largest(h, k), "keep_largest")
