"""Max and average pooling, forward and backward (lecture 9.2, 14.6)."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dlcore.backprop._conv import Geometry, geometry
from dlcore.nn import Padding, check_seen, per_axis
from dlcore.operands import has_shape

Window = int | Sequence[int]


def max_pool_forward(
    x: Float[Array, "b *space c"], window: Window, *, stride: Window | None = None, padding: Padding = "valid"
) -> tuple[Float[Array, "b *out c"], Int[Array, "b *out c"]]:
    """The maximum over each window, and which cell of the window it was: the first among equals."""
    where = _over(x.shape, window, stride, padding)
    padded = where.pad(x, -jnp.inf)
    cells = jnp.stack([where.take(padded, tap) for tap in where.taps()])
    return cells.max(0), cells.argmax(0)


def max_pool_backward(
    cache: Int[Array, "b *out c"],
    cotangent: Float[Array, "b *out c"],
    shape: Sequence[int],
    window: Window,
    *,
    stride: Window | None = None,
    padding: Padding = "valid",
) -> Float[Array, "b *space c"]:
    """Each ȳ goes back to the cell that won; cells that win in several windows get the sum. `shape` is x's.

    Raises `ValueError` for a cotangent that is not of the output's shape.
    """
    where = _over(shape, window, stride, padding)
    _check_cotangent("max_pool_backward", cotangent, shape, where)
    has_shape("max_pool_backward", "cache", cache, cotangent.shape, "that of the cotangent")
    return sum(where.put(jnp.where(cache == i, cotangent, 0), tap) for i, tap in enumerate(where.taps()))


def avg_pool_forward(
    x: Float[Array, "b *space c"], window: Window, *, stride: Window | None = None, padding: Padding = "valid"
) -> tuple[Float[Array, "b *out c"], Float[Array, "1 *out 1"]]:
    """The mean over each window, added cells not counted; the cache is how many cells count."""
    where = _over(x.shape, window, stride, padding)
    padded, real = where.pad(x), where.pad(jnp.ones((1, *x.shape[1:-1], 1), x.dtype))
    count = sum(where.take(real, tap) for tap in where.taps())
    return sum(where.take(padded, tap) for tap in where.taps()) / count, count


def avg_pool_backward(
    cache: Float[Array, "1 *out 1"],
    cotangent: Float[Array, "b *out c"],
    shape: Sequence[int],
    window: Window,
    *,
    stride: Window | None = None,
    padding: Padding = "valid",
) -> Float[Array, "b *space c"]:
    """Each ȳ is spread evenly over the cells of its window. `shape` is x's.

    Raises `ValueError` for a cotangent that is not of the output's shape.
    """
    where = _over(shape, window, stride, padding)
    _check_cotangent("avg_pool_backward", cotangent, shape, where)
    return sum(where.put(cotangent / cache, tap) for tap in where.taps())


def _check_cotangent(name: str, cotangent: Array, shape: Sequence[int], where: Geometry) -> None:
    has_shape(name, "cotangent", cotangent, (shape[0], *where.positions, shape[-1]), "that of the output")


def _over(shape: Sequence[int], window: Window, stride: Window | None, padding: Padding) -> Geometry:
    sizes = per_axis(window, len(shape) - 2, "window")
    where = geometry(shape[1:-1], sizes, sizes if stride is None else stride, padding)
    check_seen(where.window, where.widths)
    return where
