"""Convolutions of small images to many channels, as one matrix product (lecture 14.1–14.5)."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn._conv.lowering.taps import shifted
from dlcore.nn._conv.lowering.xla import Widths
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


def patches(
    x: Float[Array, "b *space c_in"],
    window: Sequence[int],
    stride: Sequence[int],
    widths: Widths,
    dilation: Sequence[int],
) -> Float[Array, "b *space_out terms"]:
    """What the window sees at each position, its cells in C order: a convolution is their product with the kernel."""
    # Without the barrier XLA computes what leads to x anew for every tap.
    return jax.lax.optimization_barrier(jnp.concatenate(shifted(x, window, stride, widths, dilation), -1))
