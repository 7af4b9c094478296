"""The fastest of the ways to compute a convolution on CPU (lecture 14.1–14.5)."""

from collections.abc import Sequence

import jax
from jaxtyping import Array, Float, Real

from dlcore.nn._conv.lowering.patches import conv_by_patches, few_positions
from dlcore.nn._conv.lowering.shifts import conv_by_shifts, many_products
from dlcore.nn._conv.lowering.taps import conv_by_taps, few_terms
from dlcore.nn._conv.lowering.xla import Widths, conv_by_xla
from dlcore.nn._dtypes import promoted


def conv_on_cpu(
    x: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_group c_out"],
    stride: Sequence[int],
    widths: Widths,
    dilation: Sequence[int],
    groups: int,
) -> Float[Array, "b *space_out c_out"]:
    """The `dlcore.nn.conv` of an input padded by zeros of `widths`, by the way that its shape makes fastest."""
    x, kernel = promoted("conv", x, kernel)
    if few_terms(kernel, groups):
        return conv_by_taps(x, kernel, stride, widths, dilation, groups)
    if groups == 1 and few_positions(x, kernel, stride, widths, dilation):
        return conv_by_patches(x, kernel, stride, widths, dilation)
    # The gradient of the kernel reads x moved or transposed. Without the barrier XLA computes there, cell by cell and
    # out of order, everything between the last convolution and x a second time.
    x = jax.lax.optimization_barrier(x)
    if many_products(x, kernel, stride, dilation, groups):
        return conv_by_shifts(x, kernel, widths)
    return conv_by_xla(x, kernel, stride, widths, dilation, groups)
