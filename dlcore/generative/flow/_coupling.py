"""Affine coupling: half of the input scales and shifts the other half (lecture 28.1–28.2; Dinh et al. 2017)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import in_range
from dlcore.generative.flow._chain import Moved, Tap, Watched
from dlcore.operands import equal_shapes
from dlcore.setting import Number
from dlcore.types import Bijector, Key, Model, Params

Step = Callable[[Array, Array, Array], Moved]
MASKS = ("channel", "checkerboard")


def affine_coupling(
    x: Float[Array, "b *s"], log_scale: Float[Array, "b *s"], shift: Float[Array, "b *s"]
) -> tuple[Float[Array, "b *s"], Float[Array, " b"]]:
    """y = x·exp(s) + t and log|det ∂y/∂x| = Σ s per example (Dinh et al. 2017, eq. 4, 6).

    s and t must not depend on x; where both are 0, y is x to the bit. Raises `ValueError` unless all shapes are equal.
    """
    equal_shapes("affine_coupling", x=x, log_scale=log_scale, shift=shift)
    return x * jnp.exp(log_scale) + shift, log_scale.sum(tuple(range(1, x.ndim)))


def affine_coupling_inverse(
    y: Float[Array, "b *s"], log_scale: Float[Array, "b *s"], shift: Float[Array, "b *s"]
) -> tuple[Float[Array, "b *s"], Float[Array, " b"]]:
    """x = (y − t)·exp(−s) and log|det ∂x/∂y| = −Σ s per example (Dinh et al. 2017, eq. 8).

    Raises `ValueError` unless all shapes are equal.
    """
    equal_shapes("affine_coupling_inverse", y=y, log_scale=log_scale, shift=shift)
    return (y - shift) * jnp.exp(-log_scale), -log_scale.sum(tuple(range(1, y.ndim)))


def bounded(raw: Float[Array, "*s"], bound: Number) -> Float[Array, "*s"]:
    """s = β tanh(a/β) in (−β, β), with slope 1 at 0: no single step scales by more than e^β, so that inverses stay
    accurate. Raises `ValueError` unless β > 0, where it is known."""
    in_range("bounded", "bound", bound, lambda b: b > 0, "be positive")
    return bound * jnp.tanh(raw / bound)


def checkerboard_mask(height: int, width: int, *, flip: bool = False) -> Float[Array, "h w 1"]:
    """1 where row + column is even (odd if flipped), 0 elsewhere."""
    parity = (jnp.arange(height)[:, None] + jnp.arange(width)[None, :] + flip) % 2
    return (1.0 - parity)[..., None]


def moved_channels(channels: int, mask: str, *, flip: bool = False) -> int:
    """How many channels a coupling scales and shifts; its conditioner must give twice as many outputs."""
    _check_mask(mask)
    if mask == "checkerboard":
        return channels
    return channels // 2 if flip else channels - channels // 2


def _check_mask(mask: str) -> None:
    if mask not in MASKS:
        raise ValueError(f"mask must be one of {', '.join(MASKS)}, got {mask!r}")


def AffineCoupling(conditioner: Model, *, mask: str = "channel", flip: bool = False, bound: Number = 2.0) -> Bijector:
    """Coupling layer: x₁ passes, x₂ ↦ x₂·exp(s(x₁)) + t(x₁), log|det J| = Σ s (lecture 28.2).

    `mask="channel"` passes the first half of the last axis (the second if flipped), for points [b, d] and images;
    `mask="checkerboard"` passes the sites of `checkerboard_mask`, for images [b, h, w, c]. The conditioner sees what
    passes (with zeros at the moved sites of a checkerboard) and gives raw log-scales, which `bounded` bounds by
    `bound`, then shifts: twice `moved_channels` on its last axis. It must be free of state and of dropout. Raises
    `ValueError` for an unknown mask, a bound that is not positive, or a conditioner that does not fit.
    """
    _check_mask(mask)
    in_range("AffineCoupling", "bound", bound, lambda b: b > 0, "be positive")

    def numbers(params: Params, passed: Array, channels: int) -> tuple[Array, Array]:
        out, _ = conditioner.apply(params, {}, passed)
        want = (*passed.shape[:-1], 2 * moved_channels(channels, mask, flip=flip))
        if out.shape != want:
            raise ValueError(f"AffineCoupling: the conditioner gives shape {out.shape}; it must give {want}")
        raw, shift = jnp.split(out, 2, axis=-1)
        return bounded(raw, bound), shift

    def move(params: Params, x: Array, step: Step, tap: Tap) -> Moved:
        if mask == "checkerboard":
            _check_image(x)
            keep = checkerboard_mask(*x.shape[1:3], flip=flip).astype(x.dtype)
            log_scale, shift = (n * (1 - keep) for n in numbers(params, x * keep, x.shape[-1]))
            tap("log_scale", log_scale)
            return step(x, log_scale, shift)
        passed, moved = _halves(x, flip)
        log_scale, shift = numbers(params, passed, x.shape[-1])
        tap("log_scale", log_scale)
        moved, log_det = step(moved, log_scale, shift)
        return jnp.concatenate([moved, passed] if flip else [passed, moved], axis=-1), log_det

    def init(key: Key, x: Array) -> Params:
        if mask == "checkerboard":
            _check_image(x)
        elif x.shape[-1] < 2:
            raise ValueError("AffineCoupling: one channel cannot be halved; squeeze first, or use a checkerboard mask")
        passed = x if mask == "checkerboard" else _halves(x, flip)[0]
        params, state = conditioner.init(key, passed)
        if jax.tree.leaves(state):
            raise ValueError("AffineCoupling: the conditioner has state (a batch norm?); a bijection must have none")
        return params

    return Bijector(
        init,
        Watched(lambda params, x, tap: move(params, x, affine_coupling, tap)),
        lambda params, z: move(params, z, affine_coupling_inverse, lambda path, value: None),
        "affine_coupling",
    )


def _check_image(x: Array) -> None:
    if x.ndim != 4:
        raise ValueError(f"AffineCoupling: mask='checkerboard' is for images [b, h, w, c], got shape {x.shape}")


def _halves(x: Array, flip: bool) -> tuple[Array, Array]:
    """What passes and what moves."""
    first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return (second, first) if flip else (first, second)
