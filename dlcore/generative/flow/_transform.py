"""Monotone maps of single numbers, whose parameters a network gives: what couplings apply (lecture 28.2)."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import in_range
from dlcore.operands import equal_shapes, has_shape
from dlcore.setting import Number

Mapped = tuple[Float[Array, "*s"], Float[Array, "*s"]]


class Transform(NamedTuple):
    """An increasing map of every entry on its own, with `numbers` parameters per entry.

    `forward(x, raw)` and `inverse(z, raw)` take x [*s] and raw [*s, numbers], free of bounds as a network gives them,
    and give the mapped entries and the log-slopes of their own direction, each [*s]. Raw numbers of 0 are the identity.
    """

    numbers: int
    forward: Callable[[Array, Array], Mapped]
    inverse: Callable[[Array, Array], Mapped]


def bounded(raw: Float[Array, "*s"], bound: Number) -> Float[Array, "*s"]:
    """s = β tanh(a/β) in (−β, β), with slope 1 at 0: no single step scales by more than e^β, so that inverses stay
    accurate. Raises `ValueError` unless β > 0, where it is known."""
    in_range("bounded", "bound", bound, lambda b: b > 0, "be positive")
    return bound * jnp.tanh(raw / bound)


def scaled(x: Float[Array, "*s"], log_scale: Float[Array, "*s"], shift: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """z = x·exp(s) + t; where both are 0, z is x to the bit. Raises `ValueError` for different shapes."""
    equal_shapes("scaled", x=x, log_scale=log_scale, shift=shift)
    return x * jnp.exp(log_scale) + shift


def unscaled(z: Float[Array, "*s"], log_scale: Float[Array, "*s"], shift: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """x = (z − t)·exp(−s), the inverse of `scaled`. Raises `ValueError` for different shapes."""
    equal_shapes("unscaled", z=z, log_scale=log_scale, shift=shift)
    return (z - shift) * jnp.exp(-log_scale)


def _check_raw(x: Array, raw: Array) -> None:
    has_shape("affine", "raw", raw, (*x.shape, 2), f"two numbers for each entry of x {x.shape}")


def affine(bound: Number = 2.0) -> Transform:
    """z = x·exp(s) + t of the raw numbers (a, t), with s = `bounded(a, bound)` (Dinh et al. 2017).

    Raises `ValueError` for a bound that is not positive.
    """
    in_range("affine", "bound", bound, lambda b: b > 0, "be positive")

    def forward(x: Array, raw: Array) -> Mapped:
        _check_raw(x, raw)
        log_scale = bounded(raw[..., 0], bound)
        return scaled(x, log_scale, raw[..., 1]), log_scale

    def inverse(z: Array, raw: Array) -> Mapped:
        _check_raw(z, raw)
        log_scale = bounded(raw[..., 0], bound)
        return unscaled(z, log_scale, raw[..., 1]), -log_scale

    return Transform(2, forward, inverse)
