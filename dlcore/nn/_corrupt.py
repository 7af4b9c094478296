"""Corruption of inputs, which a denoising autoencoder undoes (lecture 21.3).

A corruption is drawn anew at every training step. `by_row` draws it from a key per example, for held-out images whose
noise must not depend on the batch that they come in.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.lookup import lookup
from dlcore.nn._noise import add_noise
from dlcore.setting import Number, number
from dlcore.types import Key

Corruption: TypeAlias = Callable[[Key, Array], Array]
"""`(key, x [b, ...]) -> corrupted x`, of the same shape."""


def mask(key: Key, x: Float[Array, "..."], rate: Number) -> Float[Array, "..."]:
    """Each element 0 with probability `rate`, the others as they are (Vincent et al. 2010, section 3.3).

    Unlike dropout it does not divide by 1 − rate, and rate 1 masks everything. Raises `ValueError` unless 0 ≤ rate ≤ 1,
    where it is known.
    """
    _check_rate("mask", rate)
    return jnp.where(jax.random.bernoulli(key, rate, x.shape), jnp.zeros_like(x), x)


def salt_and_pepper(
    key: Key, x: Float[Array, "..."], rate: Number, *, low: float = 0.0, high: float = 1.0
) -> Float[Array, "..."]:
    """Each element, with probability `rate`, `low` or `high` by the toss of a fair coin (Vincent et al. 2010).

    An element that is hit may be left at its value: of binary ones half are, so that rate/2 of them change. Raises
    `ValueError` unless 0 ≤ rate ≤ 1, where it is known.
    """
    _check_rate("salt_and_pepper", rate)
    hit, coin = jax.random.split(key)
    extreme = jnp.where(jax.random.bernoulli(coin, 0.5, x.shape), high, low).astype(x.dtype)
    return jnp.where(jax.random.bernoulli(hit, rate, x.shape), extreme, x)


def gaussian(key: Key, x: Float[Array, "..."], std: Number) -> Float[Array, "..."]:
    """x + ε with ε ~ N(0, σ²), in the units of x and not clipped. Raises `ValueError` unless σ ≥ 0."""
    return add_noise(x, std, key=key)


def corruption(name: str, level: Number) -> Corruption:
    """The corruption "gaussian" (σ), "masking" or "salt_and_pepper" (rate) of that strength.

    Raises `ValueError` for another name, with the nearest, and for a strength out of range, where it is known.

    >>> import jax, jax.numpy as jnp
    >>> corruption("masking", 1.0)(jax.random.key(0), jnp.ones(3))
    Array([0., 0., 0.], dtype=float32)
    """
    function = lookup("corruption", name, {"gaussian": gaussian, "masking": mask, "salt_and_pepper": salt_and_pepper})
    if name == "gaussian":
        number(level, "corruption gaussian: the level σ", "[0, ∞)")
    else:
        _check_rate(f"corruption {name}", level)
    return lambda key, x: function(key, x, level)


def by_row(corrupt: Corruption, keys: Key, x: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """Every example corrupted with a key of its own, `keys` [b]."""
    return jax.vmap(corrupt)(keys, x)


def _check_rate(name: str, rate: Number) -> None:
    number(rate, f"{name}: rate", "[0, 1]")
