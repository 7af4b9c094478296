"""A convolution as its dense matrix, and what it saves against one (lecture 14.1–14.5, 14.8)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from dlcore.nn._dtypes import promoted, widely
from dlcore.nn._window import MIRROR, PERIODIC, Padding, Sizes, copies, output_space, pad, pad_widths, per_axis
from dlcore.setting import Size, whole


def conv_matrix(
    kernel: Real[Array, "*window c_group c_out"],
    space: Sequence[Size],
    *,
    stride: Sizes = 1,
    padding: Padding = "zero",
    dilation: Sizes = 1,
    groups: Size = 1,
) -> Float[Array, "outputs inputs"]:
    """The matrix M with M vec(x) = vec(conv(x, kernel, …)), x [*space, c_in] and y [*space_out, c_out] in C order.

    Every row holds the kernel at the cells that the window covers; in one dimension with stride 1 and zeros outside it
    is a Toeplitz matrix, with periodic padding a circulant one. It is made from positions alone, without a convolution.
    Raises `ValueError` where `conv` does.
    """
    groups, space = whole(groups, "conv_matrix: groups"), per_axis(space, len(space), "space")
    _check_groups(groups, kernel.shape[-2] * groups, kernel.shape[-1])
    (kernel,) = promoted("conv_matrix", kernel)
    taps = _taps(kernel.shape[:-2], space, stride, padding, dilation)
    # Cells outside add to one more input, which is cut off.
    cells = math.prod(space)
    index = np.where(taps < 0, cells, taps)

    def place(kernel: Array) -> Array:
        blocks = _expand(kernel, groups)
        matrix = jnp.zeros((len(index), cells + 1, *blocks.shape[1:]), kernel.dtype)
        matrix = matrix.at[np.arange(len(index))[:, None], index].add(blocks[None])[:, :cells]
        return matrix.transpose(0, 3, 1, 2).reshape(len(index) * blocks.shape[2], cells * blocks.shape[1])

    return widely(place, kernel)


class Counts(NamedTuple):
    """Numbers of a convolution without bias beside a dense layer between the same signals."""

    parameters: int
    connections: int
    """Products of a weight and an input; those with padded zeros are left out."""
    dense: int
    """Parameters, and connections, of the dense layer."""


def count_connections(
    window: Sequence[Size],
    channels: tuple[Size, Size],
    space: Sequence[Size],
    *,
    stride: Sizes = 1,
    padding: Padding = "zero",
    dilation: Sizes = 1,
    groups: Size = 1,
) -> Counts:
    """What a convolution of `channels` (in, out) needs on a signal of size `space`; raises as `conv_matrix` does."""
    groups, channels = whole(groups, "count_connections: groups"), per_axis(channels, 2, "channels")
    space, window = per_axis(space, len(space), "space"), per_axis(window, len(space), "window")
    _check_groups(groups, *channels)
    taps = _taps(window, space, stride, padding, dilation)
    pairs = channels[0] // groups * channels[1]
    dense = math.prod(space) * channels[0] * len(taps) * channels[1]
    return Counts(math.prod(window) * pairs, int((taps >= 0).sum()) * pairs, dense)


def _taps(
    window: Sequence[Size],
    space: Sequence[Size],
    stride: Sizes,
    padding: Padding,
    dilation: Sizes,
) -> np.ndarray:
    """Flat input cell of every output position and tap, [positions, taps]; −1 where there is a zero."""
    axes = len(space)
    strides, dilations = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    widths = pad_widths(space, window, strides, dilations, padding)
    if copies(padding):
        # The shapes alone: an axis too short to be copied from is told as for the convolution.
        jax.eval_shape(lambda x: pad(x, widths, padding), jax.ShapeDtypeStruct((1, *space, 1), jnp.float32))
    flat = np.zeros((1, 1), int)
    counts = output_space(space, window, strides, widths, dilations)
    for n, w, s, d, (low, _), count in zip(space, window, strides, dilations, widths, counts, strict=True):
        cell = np.arange(count)[:, None] * s + np.arange(w) * d - low
        if padding in PERIODIC:
            cell = cell % n
        elif padding in MIRROR:
            cell = np.abs(cell)
            cell = np.where(cell >= n, 2 * (n - 1) - cell, cell)
        cell = np.where((cell >= 0) & (cell < n), cell, -1)
        outside = (flat[:, None, :, None] < 0) | (cell[None, :, None, :] < 0)
        flat = np.where(outside, -1, flat[:, None, :, None] * n + cell[None, :, None, :])
        flat = flat.reshape(flat.shape[0] * flat.shape[1], -1)
    return flat


def _check_groups(groups: int, c_in: int, c_out: int) -> None:
    if c_in % groups or c_out % groups:
        raise ValueError(f"groups={groups} must divide the {c_in} channels in and the {c_out} out")


def _expand(kernel: Array, groups: int) -> Array:
    """[*window, c_in/groups, c_out] to [taps, c_in, c_out], zero between channels of different groups."""
    c_group, c_out = kernel.shape[-2:]
    parts = kernel.reshape(-1, c_group, groups, c_out // groups)
    same = jnp.eye(groups, dtype=kernel.dtype)
    return jnp.einsum("kigo,hg->khigo", parts, same, precision="highest").reshape(-1, groups * c_group, c_out)
