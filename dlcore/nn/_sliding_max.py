"""The maximum of a window that slides over spatial axes, one axis after the other (lecture 14.6).

    y[p] = max_i x[p·stride + i],   ∂y[p]/∂x[q] = 1 where q is the first winner of window p, else 0.

A maximum over rows and columns is that over rows of those over columns: k + k cells instead of k·k. Each axis is
k moved copies that a compiler turns into one loop; XLA's own sliding window, above all its gradient, which looks for
the winners by carrying their numbers along, takes some twenty times as long on CPU.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped


class Slide(NamedTuple):
    """A window on one axis: its size and stride, and the cells added at both sides."""

    axis: int
    size: int
    stride: int
    low: int
    high: int


def sliding_max(
    x: Shaped[Array, "b *space c"], sizes: Sequence[int], strides: Sequence[int], widths: Sequence[tuple[int, int]]
) -> Shaped[Array, "b *out c"]:
    """Maximum over each window, added cells left out; of equal cells the first in C order has the gradient."""
    # The last axis first: then the first of equals is the first in C order.
    for axis in reversed(range(len(sizes))):
        slide = Slide(axis + 1, sizes[axis], strides[axis], *widths[axis])
        x = _slide(x, slide) if jnp.issubdtype(x.dtype, jnp.floating) else _maximum(x, slide)
    return x


def _copies(x: Array, slide: Slide, fill: float) -> list[Array]:
    """What cell 0, 1, … of each window holds."""
    count = (x.shape[slide.axis] + slide.low + slide.high - slide.size) // slide.stride
    edges = [(0, 0, 0)] * x.ndim
    edges[slide.axis] = (slide.low, slide.high, 0)
    x = jax.lax.pad(x, jnp.asarray(fill, x.dtype), edges)
    cut = functools.partial(jax.lax.slice_in_dim, x, stride=slide.stride, axis=slide.axis)
    return [cut(i, i + count * slide.stride + 1) for i in range(slide.size)]


def _least(x: Array) -> float:
    if x.dtype == bool:
        return False
    return -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min


def _maximum(x: Array, slide: Slide) -> Array:
    return functools.reduce(jnp.maximum, _copies(x, slide, _least(x)))


_slide = jax.custom_jvp(_maximum, nondiff_argnums=(1,))


@_slide.defjvp
def _slide_jvp(slide: Slide, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    first, *others = _copies(x, slide, -jnp.inf)
    y, winner = first, jnp.zeros(first.shape, jnp.int8 if slide.size < 128 else jnp.int32)
    for i, cell in enumerate(others, 1):
        y, winner = jnp.maximum(y, cell), jnp.where(cell > y, i, winner).astype(winner.dtype)
    # Without the barrier XLA finds the winner anew for every cell that asks for it.
    winner = jax.lax.optimization_barrier(winner)
    won = [jnp.where(winner == i, cell, 0) for i, cell in enumerate(_copies(dx, slide, 0))]
    return y, functools.reduce(jnp.add, won)
