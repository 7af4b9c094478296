"""Coupling: half of the input says how the other half is scaled, shifted or bent (lecture 28.1–28.2)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import in_range
from dlcore.generative.flow.chain import Moved, Tap, Watched, checked_condition, unseen
from dlcore.generative.flow.spline import rational_quadratic
from dlcore.generative.flow.transform import Mapped, Transform, affine, scaled, unscaled
from dlcore.operands import equal_shapes
from dlcore.setting import Number
from dlcore.types import Bijector, Key, Model, Params

Step = Callable[[Array, Array], Mapped]
MASKS = ("channel", "checkerboard")


def affine_coupling(
    x: Float[Array, "b *s"], log_scale: Float[Array, "b *s"], shift: Float[Array, "b *s"]
) -> tuple[Float[Array, "b *s"], Float[Array, " b"]]:
    """y = x·exp(s) + t and log|det ∂y/∂x| = Σ s per example (Dinh et al. 2017, eq. 4, 6).

    s and t must not depend on x; where both are 0, y is x to the bit. Raises `ValueError` unless all shapes are equal.
    """
    equal_shapes("affine_coupling", x=x, log_scale=log_scale, shift=shift)
    return scaled(x, log_scale, shift), log_scale.sum(tuple(range(1, x.ndim)))


def affine_coupling_inverse(
    y: Float[Array, "b *s"], log_scale: Float[Array, "b *s"], shift: Float[Array, "b *s"]
) -> tuple[Float[Array, "b *s"], Float[Array, " b"]]:
    """x = (y − t)·exp(−s) and log|det ∂x/∂y| = −Σ s per example (Dinh et al. 2017, eq. 8).

    Raises `ValueError` unless all shapes are equal.
    """
    equal_shapes("affine_coupling_inverse", y=y, log_scale=log_scale, shift=shift)
    return unscaled(y, log_scale, shift), -log_scale.sum(tuple(range(1, y.ndim)))


def checkerboard_mask(height: int, width: int, *, flip: bool = False) -> Float[Array, "h w 1"]:
    """1 where row + column is even (odd if flipped), 0 elsewhere."""
    parity = (jnp.arange(height)[:, None] + jnp.arange(width)[None, :] + flip) % 2
    return (1.0 - parity)[..., None]


def moved_channels(channels: int, mask: str, *, flip: bool = False) -> int:
    """How many channels a coupling moves; its conditioner gives as many times what `Transform.numbers` says."""
    _check_mask(mask)
    if mask == "checkerboard":
        return channels
    return channels // 2 if flip else channels - channels // 2


def _check_mask(mask: str) -> None:
    if mask not in MASKS:
        raise ValueError(f"mask must be one of {', '.join(MASKS)}, got {mask!r}")


def Coupling(
    conditioner: Model,
    transform: Transform,
    *,
    mask: str = "channel",
    flip: bool = False,
    conditional: bool = False,
    kind: str = "coupling",
) -> Bijector:
    """Coupling layer: x₁ passes, x₂ ↦ T(x₂; θ(x₁)) entry by entry, log|det J| = Σ log T' (lecture 28.2).

    `mask="channel"` passes the first half of the last axis (the second if flipped), for points [b, d] and images;
    `mask="checkerboard"` passes the sites of `checkerboard_mask`, for images [b, h, w, c]. The conditioner sees what
    passes (with zeros at the moved sites of a checkerboard), and with `conditional` also the condition [b, ...]. It gives
    `transform.numbers` times `moved_channels` on its last axis: the first raw number of all channels, then the second,
    and so on. It must be free of state and of dropout. Raises `ValueError` for an unknown mask, a conditioner that does
    not fit, and a condition that is missing or superfluous.
    """
    _check_mask(mask)

    def numbers(params: Params, passed: Array, channels: int, condition: tuple[Array, ...]) -> Array:
        out, _ = conditioner.apply(params, {}, passed, *condition)
        moved = moved_channels(channels, mask, flip=flip)
        want = (*passed.shape[:-1], transform.numbers * moved)
        if out.shape != want:
            raise ValueError(f"{kind}: the conditioner gives shape {out.shape}; it must give {want}")
        return jnp.moveaxis(out.reshape(*out.shape[:-1], transform.numbers, moved), -2, -1)

    def move(params: Params, x: Array, condition: tuple[Array, ...], step: Step, tap: Tap) -> Moved:
        checked_condition(kind, conditional, x, condition)
        axes = tuple(range(1, x.ndim))
        if mask == "checkerboard":
            _check_image(x)
            keep = checkerboard_mask(*x.shape[1:3], flip=flip).astype(bool)
            passed = jnp.where(keep, x, 0)
            moved, log_slope = step(x, numbers(params, passed, x.shape[-1], condition))
            log_slope = jnp.where(keep, 0, log_slope)
            tap("log_scale", log_slope)
            return jnp.where(keep, x, moved), log_slope.sum(axes)
        passed, moved = _halves(x, flip)
        moved, log_slope = step(moved, numbers(params, passed, x.shape[-1], condition))
        tap("log_scale", log_slope)
        return jnp.concatenate([moved, passed] if flip else [passed, moved], axis=-1), log_slope.sum(axes)

    def init(key: Key, x: Array, *condition: Array) -> Params:
        checked_condition(kind, conditional, x, condition)
        if mask == "checkerboard":
            _check_image(x)
        elif x.shape[-1] < 2:
            raise ValueError(f"{kind}: one channel cannot be halved; squeeze first, or use a checkerboard mask")
        passed = x if mask == "checkerboard" else _halves(x, flip)[0]
        params, state = conditioner.init(key, passed, *condition)
        if jax.tree.leaves(state):
            raise ValueError(f"{kind}: the conditioner has state (a batch norm?); a bijection must have none")
        return params

    def run(params: Params, x: Array, *condition: Array, tap: Tap) -> Moved:
        return move(params, x, condition, transform.forward, tap)

    def inverse(params: Params, z: Array, *condition: Array) -> Moved:
        return move(params, z, condition, transform.inverse, unseen)

    return Bijector(init, Watched(run), inverse, kind, conditional)


def AffineCoupling(
    conditioner: Model, *, mask: str = "channel", flip: bool = False, bound: Number = 2.0, conditional: bool = False
) -> Bijector:
    """`Coupling` by x₂·exp(s(x₁)) + t(x₁), log|det J| = Σ s: the conditioner gives raw log-scales, which `bounded`
    bounds by `bound`, then shifts (Dinh et al. 2017). Raises `ValueError` as that does, and unless the bound is positive.
    """
    in_range("AffineCoupling", "bound", bound, lambda b: b > 0, "be positive")
    options = {"mask": mask, "flip": flip, "conditional": conditional}
    return Coupling(conditioner, affine(bound), kind="affine_coupling", **options)


def SplineCoupling(
    conditioner: Model,
    *,
    bins: int = 8,
    bound: Number = 4.0,
    mask: str = "channel",
    flip: bool = False,
    conditional: bool = False,
) -> Bijector:
    """`Coupling` by rational-quadratic splines of `bins` bins on [−`bound`, `bound`], the identity outside (Durkan et al.
    2019): 3·bins − 1 raw numbers per moved channel, of which zeros are the identity. Raises `ValueError` as that does.
    """
    options = {"mask": mask, "flip": flip, "conditional": conditional}
    return Coupling(conditioner, rational_quadratic(bins, bound), kind="spline_coupling", **options)


def _check_image(x: Array) -> None:
    if x.ndim != 4:
        raise ValueError(f"coupling: mask='checkerboard' is for images [b, h, w, c], got shape {x.shape}")


def _halves(x: Array, flip: bool) -> tuple[Array, Array]:
    """What passes and what moves."""
    first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return (second, first) if flip else (first, second)
