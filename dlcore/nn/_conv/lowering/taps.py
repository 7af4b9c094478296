"""Convolutions whose outputs sum few products, tap by tap: XLA on CPU is slow at these (lecture 14.1–14.5)."""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Real

from dlcore.nn._conv.lowering.depthwise import depthwise_in_kernel, many_taps, sum_of_moved_taps
from dlcore.nn._conv.lowering.xla import Widths
from dlcore.nn._dtypes import promoted, widely
from dlcore.nn._window import output_space
from dlcore.operands import wide

MOST_TERMS = 64
"""Products per output up to which this is the faster way, of one channel or group by group, as measured."""

MOST_IN_A_SUM = 32
"""And of several channels, or as a sum that is written out."""


def few_terms(kernel: Float[Array, "*window c_group c_out"], groups: int) -> bool:
    """Whether each output sums so few products that `conv_by_taps` is the faster way on CPU."""
    single = groups > 1 or kernel.shape[-2] == 1
    return math.prod(kernel.shape[:-1]) <= (MOST_TERMS if single else MOST_IN_A_SUM)


def conv_by_taps(
    x: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_group c_out"],
    stride: Sequence[int],
    widths: Widths,
    dilation: Sequence[int],
    groups: int,
) -> Float[Array, "b *space_out c_out"]:
    """The `dlcore.nn.conv` of an input padded by zeros of `widths`, in one pass over the output.

    With few input channels the derivatives are matrix products of the shifted inputs, which sum over positions as
    fast as over channels; with groups, whose products would be thin, they are passes like the value, and with a
    large window those of `depthwise`.
    """
    x, kernel = promoted("conv", x, kernel)
    return _by_taps(x, kernel, tuple(stride), tuple(widths), tuple(dilation), groups)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def _by_taps(x: Array, kernel: Array, stride: tuple, widths: tuple, dilation: tuple, groups: int) -> Array:
    if groups == 1 and math.prod(kernel.shape[:-1]) > MOST_IN_A_SUM:
        return _products(x, kernel, stride, widths, dilation, groups)
    # Without the barrier XLA sums anew for everything that reads the output.
    return jax.lax.optimization_barrier(sum_of_taps(x, kernel, stride, widths, dilation, groups))


def _by_taps_jvp(
    stride: tuple, widths: tuple, dilation: tuple, groups: int, primals: tuple, tangents: tuple
) -> tuple[Array, Array]:
    """A convolution is linear in x and in the kernel; where a tangent is known to be 0 its part is left out."""
    (x, kernel), (dx, dkernel) = primals, tangents
    if many_taps(kernel, stride, dilation, groups):
        in_x, in_kernel, options = sum_of_moved_taps, depthwise_in_kernel, (widths,)
    else:
        in_x = in_kernel = _products if groups == 1 else sum_of_taps
        options = (stride, widths, dilation, groups)
    parts = [
        derivative(*pair, *options)
        for derivative, pair in ((in_x, (dx, kernel)), (in_kernel, (x, dkernel)))
        if not any(isinstance(array, SymbolicZero) for array in pair)
    ]
    y = _by_taps(x, kernel, stride, widths, dilation, groups)
    return y, sum(parts[1:], start=parts[0]) if parts else jnp.zeros_like(y)


_by_taps.defjvp(_by_taps_jvp, symbolic_zeros=True)


def shifted(
    x: Array, window: Sequence[int], stride: Sequence[int], widths: Widths, dilation: Sequence[int]
) -> list[Array]:
    """For every tap of the window, in C order, what it sees at each output: [b, *space_out, c_in]."""
    counts = output_space(x.shape[1:-1], window, stride, widths, dilation)
    x = jnp.pad(x, [(0, 0), *widths, (0, 0)])

    def cells(tap: int, dilation: int, count: int, stride: int) -> slice:
        return slice(tap * dilation, tap * dilation + (count - 1) * stride + 1, stride)

    taps = itertools.product(*map(range, window))
    return [x[(slice(None), *map(cells, tap, dilation, counts, stride))] for tap in taps]


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def sum_of_taps(
    x: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_group c_out"],
    stride: tuple,
    widths: tuple,
    dilation: tuple,
    groups: int,
) -> Float[Array, "b *space_out c_out"]:
    """Σ over taps and channels of a group, in float32 at least. `dlcore.nn.flops` knows it by its name."""
    x, kernel = promoted("conv", x, kernel)
    window, channels = kernel.shape[:-2], kernel.shape[-2]
    weights = wide(kernel).reshape(-1, channels, groups, kernel.shape[-1] // groups)
    products = []
    for tap, seen in enumerate(shifted(wide(x), window, stride, widths, dilation)):
        seen = seen.reshape(*seen.shape[:-1], groups, channels)
        products += [seen[..., i, None] * weights[tap, i] for i in range(channels)]
    y = functools.reduce(jnp.add, products)
    return y.reshape(*y.shape[:-2], kernel.shape[-1]).astype(x.dtype)


def _products(x: Array, kernel: Array, stride: tuple, widths: tuple, dilation: tuple, groups: int) -> Array:
    """The same for one group, as one matrix product per image: [terms, positions]ᵀ [terms, c_out]."""
    return widely(lambda x, kernel: _product_per_image(x, kernel, stride, widths, dilation), x, kernel)


def _product_per_image(x: Array, kernel: Array, stride: tuple, widths: tuple, dilation: tuple) -> Array:
    seen = jnp.stack(shifted(x, kernel.shape[:-2], stride, widths, dilation), 1)
    images, space, features = len(x), seen.shape[2:-1], kernel.shape[-1]
    terms = jnp.moveaxis(seen, -1, 2).reshape(images, -1, math.prod(space))
    weights = jnp.broadcast_to(kernel.reshape(-1, features), (images, terms.shape[1], features))
    return jnp.einsum("bts,btf->bsf", terms, weights).reshape(images, *space, features)
