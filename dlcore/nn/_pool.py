"""Pooling (lecture 14.6–14.7).

Maxima keep the dtype of the input, also integers; means of integers are float32 (see `dlcore.nn.promoted`).
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real, Shaped

from dlcore.nn._dtypes import promoted, widely
from dlcore.nn._function import Function
from dlcore.nn._rows import sum_space
from dlcore.nn._sliding_max import sliding_max
from dlcore.nn._window import Padding, Sizes, check_seen, check_window, copies, pad_widths, per_axis
from dlcore.types import Model


def max_pool(
    x: Shaped[Array, "b *space c"], window: Sizes, *, stride: Sizes | None = None, padding: Padding = "valid"
) -> Shaped[Array, "b *out c"]:
    """Maximum over each window; the stride is the window unless given. Added cells never win.

    The gradient goes to the maximum, among equals to the first. Raises `ValueError` for padding as wide as the window,
    which would see added cells alone.
    """
    sizes, strides, widths = _geometry(x, window, stride, padding)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return sliding_max(x, sizes, strides, widths)
    # A cell that wins in several windows has the sum of their gradients.
    return widely(lambda x: sliding_max(x, sizes, strides, widths), x)


def fold_max(x: Shaped[Array, "..."], axes: tuple[int, ...]) -> Shaped[Array, "..."]:
    """Maximum over short axes, of whose equal cells the first has the gradient.

    The gradient of `jnp.max` looks for the maximum among values that a compiler may have computed anew with another
    rounding: then it finds none, and divides 0 by 0. Here the number of the winner is found once, and kept.
    """
    return _fold_max(x, axes) if jnp.issubdtype(x.dtype, jnp.floating) else x.max(axes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _fold_max(x: Array, axes: tuple[int, ...]) -> Array:
    return x.max(axes)


@_fold_max.defjvp
def _fold_max_jvp(axes: tuple[int, ...], primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    sizes = [x.shape[axis] for axis in axes]
    cells = jnp.moveaxis(x, axes, range(-len(axes), 0))
    winner = cells.reshape(*cells.shape[: -len(axes)], -1).argmax(-1)
    # Without the barrier XLA finds the winner anew for every cell that asks for it.
    winner = jax.lax.optimization_barrier(winner.astype(jnp.int8 if math.prod(sizes) < 128 else jnp.int32))
    numbers = jnp.arange(math.prod(sizes), dtype=winner.dtype).reshape(sizes)
    others = [axis for axis in range(x.ndim) if axis not in axes]
    won = jnp.expand_dims(winner, axes) == jnp.expand_dims(numbers, others)
    return x.max(axes), jnp.where(won, dx, 0).sum(axes)


def avg_pool(
    x: Real[Array, "b *space c"], window: Sizes, *, stride: Sizes | None = None, padding: Padding = "valid"
) -> Float[Array, "b *out c"]:
    """Mean over each window; the stride is the window unless given. Added cells do not count.

    So it is in TensorFlow; Flax and PyTorch count them unless told `count_include_pad=False`. Raises `ValueError` for
    padding as wide as the window, which would see added cells alone.
    """
    (x,) = promoted("avg_pool", x)
    sizes, strides, widths = _geometry(x, window, stride, padding)
    if (tiles := _tiles(x, sizes, strides, widths)) is not None:
        return widely(lambda tiles: tiles.mean(axis=tuple(range(2, tiles.ndim - 1, 2))), tiles)
    add = functools.partial(_sum, sizes=sizes, strides=strides, widths=widths)
    return widely(lambda x: add(x) / add(jnp.ones((1, *x.shape[1:-1], 1), x.dtype)), x)


def global_avg_pool(x: Real[Array, "b *space c"]) -> Float[Array, "b c"]:
    """Mean over all positions."""
    (x,) = promoted("global_avg_pool", x)
    return widely(lambda x: sum_space(x) / math.prod(x.shape[1:-1]), x)


def global_max_pool(x: Shaped[Array, "b *space c"]) -> Shaped[Array, "b c"]:
    """Maximum over all positions; the gradient goes to the first of equals."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.take_along_axis(flat, flat.argmax(1, keepdims=True), axis=1)[:, 0]


def adaptive_avg_pool(x: Real[Array, "b *space c"], size: Sizes) -> Float[Array, "b *size c"]:
    """Mean over `size` bins per axis, bin i reaching from ⌊i·n/size⌋ to ⌈(i+1)·n/size⌉ (PyTorch's rule)."""
    (x,) = promoted("adaptive_avg_pool", x)
    bins = per_axis(size, x.ndim - 2, "size")
    return widely(lambda x: _over_bins(x, bins, range(1, x.ndim - 1), _mean_of_bin), x)


def adaptive_max_pool(x: Shaped[Array, "b *space c"], size: Sizes) -> Shaped[Array, "b *size c"]:
    """Maximum over the bins of `adaptive_avg_pool`; the gradient goes to the first of equals, row by row."""
    bins = per_axis(size, x.ndim - 2, "size")
    # The last axis first: then the first of equals is the first in C order.
    largest = functools.partial(_over_bins, bins=bins, axes=range(x.ndim - 2, 0, -1), reduce=_maximum_of_bin)
    return widely(largest, x) if jnp.issubdtype(x.dtype, jnp.floating) else largest(x)


def _mean_of_bin(cells: Array, axis: int) -> Array:
    return cells.mean(axis, keepdims=True)


def _maximum_of_bin(cells: Array, axis: int) -> Array:
    return jnp.expand_dims(fold_max(cells, (axis,)), axis)


def _over_bins(x: Array, bins: Sequence[int], axes: Sequence[int], reduce: Callable[[Array, int], Array]) -> Array:
    for axis in axes:
        n, count = x.shape[axis], bins[axis - 1]
        edges = [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]
        cells = [reduce(jax.lax.slice_in_dim(x, low, high, axis=axis), axis) for low, high in edges]
        x = jnp.concatenate(cells, axis)
    return x


def _geometry(x: Array, window: Sizes, stride: Sizes | None, padding: Padding) -> tuple:
    axes = x.ndim - 2
    sizes = per_axis(window, axes, "window")
    strides = sizes if stride is None else per_axis(stride, axes, "stride")
    _adds_nothing(padding)
    widths = pad_widths(x.shape[1:-1], sizes, strides, (1,) * axes, padding)
    check_seen(sizes, widths)
    return sizes, strides, widths


def _check(name: str, window: Sizes, stride: Sizes | None, padding: Padding) -> None:
    check_window(name, padding, window=window, **({} if stride is None else {"stride": stride}))
    _adds_nothing(padding)


def _adds_nothing(padding: Padding) -> None:
    if copies(padding):
        raise ValueError(f"pooling takes valid, zero, same or explicit padding, got {padding!r}")


def _tiles(x: Array, sizes: Sequence[int], strides: Sequence[int], widths: Sequence[tuple[int, int]]) -> Array | None:
    """[b, h/k, k, w/k, k, c] when the windows tile the input, cells left over cut off: faster than a sliding window."""
    if tuple(sizes) != tuple(strides) or any(map(any, widths)):
        return None
    counts = [n // k for n, k in zip(x.shape[1:-1], sizes, strict=True)]
    x = x[(slice(None), *(slice(0, n * k) for n, k in zip(counts, sizes, strict=True)))]
    return x.reshape(x.shape[0], *(v for pair in zip(counts, sizes, strict=True) for v in pair), x.shape[-1])


def _sum(x: Array, sizes: Sequence[int], strides: Sequence[int], widths: Sequence) -> Array:
    # A NumPy constant: JAX knows the gradient of the sum by its neutral element.
    start = np.array(0, x.dtype)
    return jax.lax.reduce_window(x, start, jax.lax.add, (1, *sizes, 1), (1, *strides, 1), ((0, 0), *widths, (0, 0)))


def MaxPool(window: Sizes, *, stride: Sizes | None = None, padding: Padding = "valid") -> Model:
    """Layer of `max_pool`. Raises `ValueError` for sizes and padding that are none."""
    _check("MaxPool", window, stride, padding)
    return Function(lambda x: max_pool(x, window, stride=stride, padding=padding), "max_pool")


def AvgPool(window: Sizes, *, stride: Sizes | None = None, padding: Padding = "valid") -> Model:
    """Layer of `avg_pool`. Raises `ValueError` for sizes and padding that are none."""
    _check("AvgPool", window, stride, padding)
    return Function(lambda x: avg_pool(x, window, stride=stride, padding=padding), "avg_pool")


def GlobalAvgPool() -> Model:
    """Layer of `global_avg_pool`."""
    return Function(global_avg_pool, "global_avg_pool")


def GlobalMaxPool() -> Model:
    """Layer of `global_max_pool`."""
    return Function(global_max_pool, "global_max_pool")


def AdaptiveMaxPool(size: Sizes) -> Model:
    """Layer of `adaptive_max_pool`. Raises `ValueError` for a size that is none."""
    check_window("AdaptiveMaxPool", size=size)
    return Function(lambda x: adaptive_max_pool(x, size), "adaptive_max_pool")


def AdaptiveAvgPool(size: Sizes) -> Model:
    """Layer of `adaptive_avg_pool`. Raises `ValueError` for a size that is none."""
    check_window("AdaptiveAvgPool", size=size)
    return Function(lambda x: adaptive_avg_pool(x, size), "adaptive_avg_pool")
