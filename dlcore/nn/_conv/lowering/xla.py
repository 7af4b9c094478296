"""XLA's own convolution, in the layout of dlcore (lecture 14.1–14.5)."""

from collections.abc import Sequence
from typing import TypeAlias

import jax
from jaxtyping import Array, Float, Real

from dlcore.nn._dtypes import promoted

Widths: TypeAlias = Sequence[tuple[int, int]]
"""Zeros to add (low, high) on each spatial axis."""


def conv_by_xla(
    x: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_group c_out"],
    stride: Sequence[int],
    widths: Widths,
    dilation: Sequence[int],
    groups: int = 1,
) -> Float[Array, "b *space_out c_out"]:
    """The `dlcore.nn.conv` of an input padded by zeros of `widths`."""
    x, kernel = promoted("conv", x, kernel)
    letters = "DHW"[5 - kernel.ndim :]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        stride,
        widths,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        feature_group_count=groups,
    )
