"""Convolutions of small images to many channels, as one matrix product (lecture 14.1–14.5)."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from dlcore.nn._conv.lowering.taps import shifted
from dlcore.nn._conv.lowering.xla import Widths
from dlcore.nn._dtypes import promoted, widely
from dlcore.nn._window import output_space

FEW_PER_IMAGE = 4
"""Outputs of an image, such as 2×2, up to which the patches are always better: XLA runs at a hundredth of the speed."""

FEW_PER_FEATURE = 4
"""Outputs of a batch for each of its channels up to which they are better, as the product is worth the copies."""


def few_positions(
    x: Float[Array, "b *space c_in"],
    kernel: Float[Array, "*window c_group c_out"],
    stride: Sequence[int],
    widths: Widths,
    dilation: Sequence[int],
) -> bool:
    """Whether the kernel visits so few positions, as it does late in a network, that patches are better on CPU."""
    positions = math.prod(output_space(x.shape[1:-1], kernel.shape[:-2], stride, widths, dilation))
    return positions <= FEW_PER_IMAGE or len(x) * positions <= FEW_PER_FEATURE * kernel.shape[-1]


def conv_by_patches(
    x: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_in c_out"],
    stride: Sequence[int],
    widths: Widths,
    dilation: Sequence[int],
    *,
    product: Callable[[Array, Array], Array] = jnp.matmul,
) -> Float[Array, "b *space_out c_out"]:
    """The `dlcore.nn.conv` of an input padded by zeros of `widths`: `product` of [b, *space_out, terms] and
    [terms, c_out]."""
    x, kernel = promoted("conv", x, kernel)

    def compute(x: Array, kernel: Array) -> Array:
        seen = jnp.concatenate(shifted(x, kernel.shape[:-2], stride, widths, dilation), -1)
        # Without the barrier XLA computes what leads to x anew for every tap.
        return product(jax.lax.optimization_barrier(seen), kernel.reshape(-1, kernel.shape[-1]))

    return widely(compute, x, kernel)
