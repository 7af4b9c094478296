"""Depthwise convolution with a large window, written so that its transpositions are fast on CPU (lecture 14.1–14.5).

As a sum of taps, each of which reads a window of x, it has a gradient of the kernel that reads as many copies of x as
there are taps, and a gradient of x that looks for the edge at every cell of every tap.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from dlcore.nn._conv.lowering.shifts import moved, moved_copies, moved_sum
from dlcore.nn._conv.lowering.xla import Widths
from dlcore.nn._dtypes import promoted, widely

MANY_TAPS = 25
"""Taps from which on this is the faster way, as measured for 3×3 and 7×7."""


def many_taps(
    kernel: Float[Array, "*window c_group c_out"], stride: Sequence[int], dilation: Sequence[int], groups: int
) -> bool:
    """Whether the functions here take this convolution, and have the faster gradients."""
    *window, channels, features = kernel.shape
    fits = len(window) == 2 and channels == 1 and features == groups and {*stride, *dilation} == {1}
    return fits and math.prod(window) >= MANY_TAPS


@functools.partial(jax.checkpoint, static_argnums=2, prevent_cse=False)
def depthwise_in_kernel(
    x: Real[Array, "b h w c"], kernel: Real[Array, "tall wide 1 c"], widths: Widths
) -> Float[Array, "b h_out w_out c"]:
    """Transposed with respect to the kernel it is the product of `lowering.shifts`, for each channel."""
    x, kernel = promoted("conv", x, kernel)
    return widely(lambda x, kernel: _products_by_channel(x, kernel, widths), x, kernel)


def _products_by_channel(x: Array, kernel: Array, widths: Widths) -> Array:
    tall, wide, _, channels = kernel.shape
    (above, below), (left, right) = widths
    space = x.shape[1] + above + below - tall + 1, x.shape[2] + left + right - wide + 1
    by_channel = jax.lax.optimization_barrier(x.transpose(3, 0, 1, 2))
    seen = moved_copies(by_channel, wide, axis=3, by=left, size=space[1], new=1)
    rows = seen.reshape(channels, wide, -1)
    parts = jnp.einsum("ijc,cjm->cim", kernel[:, :, 0], rows).reshape(channels, tall, *seen.shape[2:])
    y = moved_sum(parts, axis=2, by=above, size=space[0], old=1)
    return jax.lax.optimization_barrier(y).transpose(1, 2, 3, 0)


@functools.partial(jax.jit, static_argnums=2)
def sum_of_moved_taps(
    x: Real[Array, "b h w c"], kernel: Real[Array, "tall wide 1 c"], widths: Widths
) -> Float[Array, "b h_out w_out c"]:
    """Transposed with respect to x it is a sum of taps, each of which reads a window of dy with zeros around."""
    x, kernel = promoted("conv", x, kernel)
    return widely(lambda x, kernel: _moved_taps(x, kernel, widths), x, kernel)


def _moved_taps(x: Array, kernel: Array, widths: Widths) -> Array:
    tall, wide = kernel.shape[:2]
    (above, below), (left, right) = widths
    full = x.shape[1] + tall - 1, x.shape[2] + wide - 1
    taps = [
        moved(moved(x * kernel[i, j, 0], 1, tall - 1 - i, full[0]), 2, wide - 1 - j, full[1])
        for i in range(tall)
        for j in range(wide)
    ]
    rows = moved(functools.reduce(jnp.add, taps), 1, above - tall + 1, full[0] + above + below - 2 * (tall - 1))
    return moved(rows, 2, left - wide + 1, full[1] + left + right - 2 * (wide - 1))
