"""Convolutions to very few channels, as one matrix product and a sum of its moved columns (lecture 14.1–14.5)."""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from dlcore.nn._conv.lowering.xla import Widths
from dlcore.nn._dtypes import promoted, widely

FEW_OUTPUTS, FEW_COLUMNS = 3, 32
"""Outputs, and products of each input, up to which this is better than a convolution whose outputs fill no vector."""

CHANNELS = 8
"""From which on a product pays."""


def few_outputs(kernel: Float[Array, "*window c_group c_out"], stride: Sequence[int], groups: int) -> bool:
    """Whether it is taken for this kernel, as at the end of a network that makes grey images, and pays on CPU."""
    *window, channels, outputs = kernel.shape
    few = outputs <= FEW_OUTPUTS and math.prod(window) * outputs <= FEW_COLUMNS
    return takes_sums(stride, groups) and few and channels >= CHANNELS


def takes_sums(stride: Sequence[int], groups: int) -> bool:
    """Whether `conv_by_sums` computes it."""
    return groups == 1 and {*stride} == {1}


def conv_by_sums(
    x: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_in c_out"],
    widths: Widths,
    dilation: Sequence[int],
    *,
    product: Callable[[Array, Array], Array] = jnp.matmul,
) -> Float[Array, "b *space_out c_out"]:
    """The `dlcore.nn.conv` of an input padded by zeros of `widths`, with stride 1: y[p] = Σ_t (x k_t)[p + t·dilation].

    All x k_t are one `product` of [b, *space, c_in] and [c_in, taps · c_out].
    """
    x, kernel = promoted("conv", x, kernel)
    return widely(lambda x, kernel: _sum(x, kernel, widths, dilation, product), x, kernel)


def _sum(x: Array, kernel: Array, widths: Widths, dilation: Sequence[int], product: Callable) -> Array:
    *window, channels, outputs = kernel.shape
    taps = math.prod(window)
    made = product(x, jnp.moveaxis(kernel, -2, 0).reshape(channels, taps * outputs))
    moved = []
    for number, part in enumerate(jax.lax.split(made, (outputs,) * taps, made.ndim - 1)):
        tap, edges = number, []
        for size, (low, high), apart in reversed(list(zip(window, widths, dilation, strict=True))):
            tap, cell = divmod(tap, size)
            edges.append((low - cell * apart, high - (size - 1 - cell) * apart, 0))
        moved.append(jax.lax.pad(part, jnp.zeros((), part.dtype), [(0, 0, 0), *reversed(edges), (0, 0, 0)]))
    return functools.reduce(jnp.add, moved)
