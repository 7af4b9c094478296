"""Monotone rational-quadratic splines (lecture 28.2; Durkan et al. 2019, Neural Spline Flows)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import in_range
from dlcore.generative.flow._transform import Mapped, Transform
from dlcore.operands import has_shape, shape_of
from dlcore.setting import Number, whole


class Knots(NamedTuple):
    """Where a spline passes: K + 1 points (x_k, z_k) from (−B, −B) to (B, B), and its slopes there, all [*s, K + 1]."""

    x: Float[Array, "*s k"]
    z: Float[Array, "*s k"]
    slope: Float[Array, "*s k"]


def knots(raw: Float[Array, "*s n"], bound: Number, *, smallest: float = 0.1, smallest_slope: float = 0.05) -> Knots:
    """Knots from n = 3K − 1 free numbers: K widths, K heights, K − 1 inner slopes; the outer slopes are 1.

    Widths and heights are the softmax as fractions of 2B, and at least `smallest` of what equal bins would have; slopes
    are a softplus above `smallest_slope`, shifted so that raw numbers of 0 give equal bins, slopes of 1: the identity.
    Raises `ValueError` for a number that is not 3K − 1, B ≤ 0, or a smallest one outside (0, 1).

    >>> knots(jnp.zeros(5), 2.0).z.tolist()
    [-2.0, 0.0, 2.0]
    """
    bins = (raw.shape[-1] + 1) // 3
    if raw.shape[-1] != 3 * bins - 1 or bins < 1:
        raise ValueError(
            f"knots: {raw.shape[-1]} raw numbers per entry; K bins take 3K − 1, e.g. {3 * max(bins, 1) - 1}"
        )
    _check(bound, smallest, smallest_slope)
    widths, heights, slopes = jnp.split(raw, [bins, 2 * bins], axis=-1)
    shift = math.log(math.expm1(1 - smallest_slope))
    inner = smallest_slope + jax.nn.softplus(slopes + shift)
    one = jnp.ones((*raw.shape[:-1], 1), raw.dtype)
    slope = jnp.concatenate([one, inner, one], axis=-1)
    return Knots(_edges(widths, bound, smallest), _edges(heights, bound, smallest), slope)


def _check(bound: Number, smallest: float, smallest_slope: float) -> None:
    in_range("spline", "bound", bound, lambda b: b > 0, "be positive")
    in_range("spline", "smallest", smallest, lambda s: 0 < s < 1, "lie between 0 and 1")
    in_range("spline", "smallest_slope", smallest_slope, lambda s: 0 < s < 1, "lie between 0 and 1")


def _edges(raw: Array, bound: Number, smallest: float) -> Array:
    """−B = e_0 < … < e_K = B, the ends to the bit."""
    bins = raw.shape[-1]
    sizes = smallest / bins + (1 - smallest) * jax.nn.softmax(raw, axis=-1)
    inner = bound * (2 * jnp.cumsum(sizes, axis=-1)[..., :-1] - 1)
    end = jnp.full((*raw.shape[:-1], 1), bound, raw.dtype)
    return jnp.concatenate([-end, inner, end], axis=-1)


class _Bin(NamedTuple):
    """The bin that an entry lies in: its left knot, sizes, mean slope and slopes at both ends."""

    x: Array
    z: Array
    width: Array
    height: Array
    mean: Array
    left: Array
    right: Array


def _bin(knots: Knots, at: Array, edges: Array) -> _Bin:
    after = at[..., None] >= edges[..., 1:-1]
    ends = jnp.ones((*at.shape, 1), bool)
    # The one bin whose left edge lies at or below the entry and whose right edge does not.
    chosen = jnp.concatenate([ends, after], -1) & ~jnp.concatenate([after, ~ends], -1)

    def pick(values: Array) -> Array:
        return jnp.where(chosen, values, 0).sum(-1)

    x, z = pick(knots.x[..., :-1]), pick(knots.z[..., :-1])
    width, height = pick(jnp.diff(knots.x)), pick(jnp.diff(knots.z))
    return _Bin(x, z, width, height, height / width, pick(knots.slope[..., :-1]), pick(knots.slope[..., 1:]))


def _log_slope(b: _Bin, t: Array) -> Array:
    """log dz/dx at the fraction t of the bin (eq. 5)."""
    curve = b.mean + (b.left + b.right - 2 * b.mean) * t * (1 - t)
    top = b.right * jnp.square(t) + 2 * b.mean * t * (1 - t) + b.left * jnp.square(1 - t)
    return 2 * jnp.log(b.mean) + jnp.log(top) - 2 * jnp.log(curve)


def spline(x: Float[Array, "*s"], knots: Knots) -> Mapped:
    """z and log dz/dx: the monotone rational-quadratic spline inside [−B, B], the identity outside (eq. 4–5).

    Raises `ValueError` unless there are knots for every entry of x.
    """
    inside, safe = _inside("spline", x, knots, knots.x)
    b = _bin(knots, safe, knots.x)
    t = (safe - b.x) / b.width
    curve = b.mean + (b.left + b.right - 2 * b.mean) * t * (1 - t)
    z = b.z + b.height * (b.mean * jnp.square(t) + b.left * t * (1 - t)) / curve
    return jnp.where(inside, z, x), jnp.where(inside, _log_slope(b, t), 0.0)


def spline_inverse(z: Float[Array, "*s"], knots: Knots) -> Mapped:
    """x and log dx/dz. The fraction of the bin solves a t² + b t + c = 0; its root in [0, 1] is 2c/(−b − √(b² − 4ac)),
    which subtracts no equal numbers (eq. 6–8). Raises `ValueError` unless there are knots for every entry of z."""
    inside, safe = _inside("spline_inverse", z, knots, knots.z)
    k = _bin(knots, safe, knots.z)
    up, bend = safe - k.z, k.left + k.right - 2 * k.mean
    a = k.height * (k.mean - k.left) + up * bend
    b = k.height * k.left - up * bend
    c = -k.mean * up
    root = jnp.sqrt(jnp.maximum(jnp.square(b) - 4 * a * c, jnp.finfo(z.dtype).tiny))
    t = jnp.clip(2 * c / (-b - root), 0.0, 1.0)
    return jnp.where(inside, k.x + k.width * t, z), jnp.where(inside, -_log_slope(k, t), 0.0)


def _inside(name: str, x: Array, knots: Knots, edges: Array) -> tuple[Array, Array]:
    """Which entries the spline bends, and the entries with 0 for the others, so that no gradient is lost in them."""
    for part, values in knots._asdict().items():
        has_shape(name, f"knots.{part}", values, (*shape_of(x), knots.x.shape[-1]), "K + 1 numbers per entry")
    inside = (x > edges[..., 0]) & (x < edges[..., -1])
    return inside, jnp.where(inside, x, 0.0)


def rational_quadratic(bins: int = 8, bound: Number = 4.0) -> Transform:
    """The spline of `knots` as a map for couplings: K bins on [−B, B], 3K − 1 raw numbers per entry.

    In float32 an inverse is off by up to about 1e-7·B over the smallest slope, which `knots` keeps away from 0. Raises
    `ValueError` for less than two bins, or B ≤ 0.
    """
    bins = whole(bins, "rational_quadratic: bins", least=2)
    in_range("rational_quadratic", "bound", bound, lambda b: b > 0, "be positive")
    return Transform(
        3 * bins - 1,
        lambda x, raw: spline(x, knots(raw, bound)),
        lambda z, raw: spline_inverse(z, knots(raw, bound)),
    )
