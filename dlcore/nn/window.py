"""Windows that slide over spatial axes: sizes, strides and padding, shared by convolution and pooling."""

from collections.abc import Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array

Padding: TypeAlias = str | int | Sequence[tuple[int, int]]
"""`"valid"`, `"zero"`, `"mirror"`, `"periodic"`; or zeros to add, one number for all sides or (low, high) per axis.

The named ones other than valid keep ⌈n/stride⌉ positions and put the odd cell at the high side.
"""

MODES = {"zero": "constant", "mirror": "reflect", "periodic": "wrap"}


def per_axis(value: int | Sequence[int], axes: int, name: str) -> tuple[int, ...]:
    """One positive number per spatial axis; raises `ValueError` for a wrong count or a number below 1."""
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes or any(v < 1 for v in values):
        raise ValueError(f"{name} must be a positive int or {axes} of them, got {value}")
    return values


def pad_widths(
    space: Sequence[int], window: Sequence[int], stride: Sequence[int], dilation: Sequence[int], padding: Padding
) -> list[tuple[int, int]]:
    """Cells to add (low, high) on each spatial axis; raises `ValueError` when the window does not fit."""
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    if padding == "valid":
        widths = [(0, 0)] * len(space)
    elif isinstance(padding, str):
        if padding not in MODES:
            raise ValueError(f"padding must be valid, zero, mirror, periodic, an int or pairs, got {padding!r}")
        totals = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(space, stride, reach, strict=True)]
        widths = [(total // 2, total - total // 2) for total in totals]
    elif isinstance(padding, int):
        widths = [(padding, padding)] * len(space)
    else:
        widths = [(low, high) for low, high in padding]
    if len(widths) != len(space) or any(low < 0 or high < 0 for low, high in widths):
        raise ValueError(f"padding must give a non-negative (low, high) for each of {len(space)} axes, got {padding}")
    for n, r, (low, high) in zip(space, reach, widths, strict=True):
        if r > n + low + high:
            raise ValueError(
                f"window reaches over {r} cells, but the padded axis has {n + low + high}; use a smaller window"
            )
    return widths


def output_space(
    space: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int],
    widths: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> list[int]:
    """Positions of the window on each spatial axis: ⌊(n + low + high − reach)/stride⌋ + 1."""
    sizes = zip(space, window, stride, widths, dilation, strict=True)
    return [(n + sum(width) - (w - 1) * d - 1) // s + 1 for n, w, s, width, d in sizes]


def pad(x: Array, widths: Sequence[tuple[int, int]], padding: Padding) -> Array:
    """`x` [b, *space, c] extended by mirroring (without repeating the edge) or periodically."""
    limit = {"mirror": -1, "periodic": 0}[padding]
    for n, (low, high) in zip(x.shape[1:-1], widths, strict=True):
        if max(low, high) > n + limit:
            raise ValueError(
                f"{padding} padding by {max(low, high)} needs more than the {n} cells of the axis; use zero"
            )
    return jnp.pad(x, [(0, 0), *widths, (0, 0)], mode=MODES[padding])
