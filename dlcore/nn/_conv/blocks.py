"""Strided convolution as one matrix product over blocks of cells, fast in every derivative (lecture 14.4, 27.1)."""

import itertools
import math
from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from dlcore.backend import on_cpu
from dlcore.nn._conv.lowering.table import WAYS, Problem, way_of
from dlcore.nn._dtypes import promoted
from dlcore.nn._product import product
from dlcore.nn._rows import add_bias
from dlcore.nn._window import Padding, Sizes, check_window, copies, pad, pad_widths, per_axis
from dlcore.nn.init import Initializer, lecun_normal, zeros
from dlcore.operands import wide
from dlcore.setting import Size, whole
from dlcore.types import Input, Key, Model, Params, State


def conv_by_blocks(
    x: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_in c_out"],
    stride: Sizes,
    padding: Padding = "zero",
) -> Float[Array, "b *space_out c_out"]:
    """The `dlcore.nn.conv` of a window that is a whole number of strides along each axis.

    Blocks of stride^axes cells become channels, where the convolution has stride 1 and few taps; these are joined for
    one matrix product. Its adjoint is a product, an overlapping addition of the taps, and a rearrangement (a
    "sub-pixel" convolution). XLA on CPU takes up to 15 times as long for the kernel's gradient of a dilated
    convolution, which transposed convolutions and gradient penalties need; oneDNN, which then computes it,
    does not, nor does an accelerator, which convolves plainly: on a GPU blocks move twice the memory. Raises
    `ValueError` for another window.
    """
    axes, window, channels = kernel.ndim - 2, kernel.shape[:-2], x.shape[-1]
    strides = per_axis(stride, axes, "stride")
    if not whole_blocks(window, strides):
        raise ValueError(f"conv_by_blocks: window {window} is not a whole number of strides {strides}; use conv")
    widths = pad_widths(x.shape[1:-1], window, strides, (1,) * axes, padding)
    x, kernel = promoted("conv_by_blocks", x, kernel)
    if copies(padding):
        x, widths = pad(x, widths, padding), [(0, 0)] * axes
    problem = Problem(x, kernel, strides, widths, (1,) * axes, 1)
    way = way_of(problem)
    if not on_cpu() or (way == "onednn" and channels > 1):  # with one channel the product is faster
        return WAYS[way].compute(problem)
    dtype, x = x.dtype, jnp.pad(wide(x), [(0, 0), *widths, (0, 0)])
    sizes = zip(x.shape[1:-1], window, strides, strict=True)
    counts, taps = [(n - w) // s + 1 for n, w, s in sizes], [w // s for w, s in zip(window, strides, strict=True)]
    reached = (slice((n - 1 + t) * s) for n, t, s in zip(counts, taps, strides, strict=True))
    x = _blocks(x[(slice(None), *reached)], (x.shape[0],), strides, channels)
    joined = jnp.concatenate(
        [x[(slice(None), *_shift(tap, counts))] for tap in itertools.product(*map(range, taps))], -1
    )
    rows = _blocks(kernel, (), strides, channels * kernel.shape[-1]).reshape(-1, kernel.shape[-1])
    return product(joined.astype(dtype), rows)


def whole_blocks(window: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether the window is a whole number of strides along each axis."""
    return all(w % s == 0 for w, s in zip(window, stride, strict=True))


def _shift(start: Sequence[int], counts: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(t, t + n) for t, n in zip(start, counts, strict=True))


def _blocks(x: Array, lead: tuple[int, ...], stride: Sequence[int], last: int) -> Array:
    """[*lead, *space, ...] to [*lead, *space/stride, stride^axes · last]."""
    first, axes = len(lead), len(stride)
    pairs = [size for n, s in zip(x.shape[first:], stride, strict=False) for size in (n // s, s)]
    outer, inner = range(first, first + 2 * axes, 2), range(first + 1, first + 2 * axes, 2)
    x = x.reshape(*lead, *pairs, last).transpose(*range(first), *outer, *inner, first + 2 * axes)
    return x.reshape(*lead, *pairs[::2], math.prod(stride) * last)


def BlockConv(
    features: Size,
    window: Size,
    *,
    stride: Size,
    padding: Padding = "zero",
    bias: bool = True,
    kernel_init: Initializer = lecun_normal,
    bias_init: Initializer = zeros,
) -> Model:
    """Layer of `conv_by_blocks` with the params of `dlcore.nn.Conv`, for networks that are differentiated twice.

    Raises `ValueError` unless `stride` divides `window`.
    """
    features = whole(features, "BlockConv: features")
    window, stride = whole(window, "BlockConv: window"), whole(stride, "BlockConv: stride")
    if window % stride:
        raise ValueError(f"BlockConv: stride={stride} does not divide window={window}; use Conv")
    check_window("BlockConv", padding)

    def init(key: Key, x: Input) -> tuple[Params, State]:
        params = {"kernel": kernel_init(key, (*(window,) * (len(x.shape) - 2), x.shape[-1], features))}
        return (params | {"bias": bias_init(key, (features,))} if bias else params), {}

    def apply(
        params: Params, state: State, x: Real[Array, "b *space c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b *out f"], State]:
        y = conv_by_blocks(x, params["kernel"], stride, padding)
        return (add_bias(*promoted("BlockConv", y, params["bias"])) if bias else y), state

    return Model(init, apply, "block_conv")
