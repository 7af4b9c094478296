"""Binarised images: grey values as probabilities of black and white (lecture 23–24)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dlcore.data._preprocess import row_keys
from dlcore.types import Key

HELD_OUT_SEED = 2024


def binarize(key: Key, images: Float[Array, "n *s"]) -> Float[Array, "n *s"]:
    """Pixels 1 with the probability that is their value in [0, 1], else 0 (Salakhutdinov & Murray 2008)."""
    return jax.random.bernoulli(key, images).astype(jnp.float32)


def binarize_rows(images: Float[Array, "n *s"], rows: Int[Array, " n"]) -> Float[Array, "n *s"]:
    """`binarize` with noise that the number of an image in its split decides: the same for every run and batch."""
    keys = row_keys(jax.random.key(HELD_OUT_SEED), rows)
    return jax.vmap(jax.random.bernoulli)(keys, images).astype(jnp.float32)
