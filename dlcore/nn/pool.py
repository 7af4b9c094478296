"""Pooling (lecture 14.6–14.7)."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.nn.window import Padding, pad_widths, per_axis
from dlcore.types import Input, Key, Model, Params, State

Window = int | Sequence[int]


def max_pool(
    x: Float[Array, "b *space c"], window: Window, *, stride: Window | None = None, padding: Padding = "valid"
) -> Float[Array, "b *out c"]:
    """Maximum over each window; the stride is the window unless given. Added cells never win.

    The gradient goes to the maximum, among equals to the first.
    """
    sizes, strides, widths = _geometry(x, window, stride, padding)
    if (tiles := _tiles(x, sizes, strides, widths)) is not None:
        return fold_max(tiles, tuple(range(2, tiles.ndim - 1, 2)))
    return _reduce(x, -jnp.inf, jax.lax.max, sizes, strides, widths)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def fold_max(x: Float[Array, "..."], axes: tuple[int, ...]) -> Float[Array, "..."]:
    """Maximum over short axes, of whose equal cells the first has the gradient.

    The gradient of `jnp.max` looks for the maximum among values that a compiler may have computed anew with another
    rounding: then it finds none, and divides 0 by 0. Here the number of the winner is found once, and kept.
    """
    return x.max(axes)


@fold_max.defjvp
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
    x: Float[Array, "b *space c"], window: Window, *, stride: Window | None = None, padding: Padding = "valid"
) -> Float[Array, "b *out c"]:
    """Mean over each window; the stride is the window unless given. Added cells do not count."""
    sizes, strides, widths = _geometry(x, window, stride, padding)
    if (tiles := _tiles(x, sizes, strides, widths)) is not None:
        return tiles.mean(axis=tuple(range(2, tiles.ndim - 1, 2)))
    total = _reduce(x, 0.0, jax.lax.add, sizes, strides, widths)
    count = _reduce(jnp.ones((1, *x.shape[1:-1], 1), x.dtype), 0.0, jax.lax.add, sizes, strides, widths)
    return total / count


def global_avg_pool(x: Float[Array, "b *space c"]) -> Float[Array, "b c"]:
    """Mean over all positions."""
    return x.mean(axis=tuple(range(1, x.ndim - 1)))


def global_max_pool(x: Float[Array, "b *space c"]) -> Float[Array, "b c"]:
    """Maximum over all positions; the gradient goes to the first of equals."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.take_along_axis(flat, flat.argmax(1, keepdims=True), axis=1)[:, 0]


def adaptive_avg_pool(x: Float[Array, "b *space c"], size: Window) -> Float[Array, "b *size c"]:
    """Mean over `size` bins per axis, bin i reaching from ⌊i·n/size⌋ to ⌈(i+1)·n/size⌉ (PyTorch's rule)."""
    for axis, bins in enumerate(per_axis(size, x.ndim - 2, "size"), start=1):
        n = x.shape[axis]
        edges = [(i * n // bins, -(-(i + 1) * n // bins)) for i in range(bins)]
        cells = [jax.lax.slice_in_dim(x, low, high, axis=axis).mean(axis, keepdims=True) for low, high in edges]
        x = jnp.concatenate(cells, axis)
    return x


def _geometry(x: Array, window: Window, stride: Window | None, padding: Padding) -> tuple:
    axes = x.ndim - 2
    sizes = per_axis(window, axes, "window")
    strides = sizes if stride is None else per_axis(stride, axes, "stride")
    if padding in ("mirror", "periodic"):
        raise ValueError(f"pooling takes valid, zero or explicit padding, got {padding!r}")
    return sizes, strides, pad_widths(x.shape[1:-1], sizes, strides, (1,) * axes, padding)


def _tiles(x: Array, sizes: Sequence[int], strides: Sequence[int], widths: Sequence[tuple[int, int]]) -> Array | None:
    """[b, h/k, k, w/k, k, c] when the windows tile the input, cells left over cut off: faster than a sliding window."""
    if tuple(sizes) != tuple(strides) or any(map(any, widths)):
        return None
    counts = [n // k for n, k in zip(x.shape[1:-1], sizes, strict=True)]
    x = x[(slice(None), *(slice(0, n * k) for n, k in zip(counts, sizes, strict=True)))]
    return x.reshape(x.shape[0], *(v for pair in zip(counts, sizes, strict=True) for v in pair), x.shape[-1])


def _reduce(
    x: Array, start: float, operation: Callable, sizes: Sequence[int], strides: Sequence[int], widths: Sequence
) -> Array:
    # A NumPy constant: JAX knows the gradient of the maximum and of the sum by their neutral element.
    start = np.array(start, x.dtype)
    return jax.lax.reduce_window(x, start, operation, (1, *sizes, 1), (1, *strides, 1), ((0, 0), *widths, (0, 0)))


def _pooling(function: Callable[[Array], Array]) -> Model:
    def init(key: Key, x: Input) -> tuple[Params, State]:
        return {}, {}

    def apply(
        params: Params, state: State, x: Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array, State]:
        return function(x), state

    return Model(init, apply)


def MaxPool(window: Window, *, stride: Window | None = None, padding: Padding = "valid") -> Model:
    """Layer of `max_pool`."""
    return _pooling(lambda x: max_pool(x, window, stride=stride, padding=padding))


def AvgPool(window: Window, *, stride: Window | None = None, padding: Padding = "valid") -> Model:
    """Layer of `avg_pool`."""
    return _pooling(lambda x: avg_pool(x, window, stride=stride, padding=padding))


def GlobalAvgPool() -> Model:
    """Layer of `global_avg_pool`."""
    return _pooling(global_avg_pool)


def GlobalMaxPool() -> Model:
    """Layer of `global_max_pool`."""
    return _pooling(global_max_pool)


def AdaptiveAvgPool(size: Window) -> Model:
    """Layer of `adaptive_avg_pool`."""
    return _pooling(lambda x: adaptive_avg_pool(x, size))
