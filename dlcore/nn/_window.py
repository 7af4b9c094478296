"""Windows that slide over spatial axes: sizes, strides and padding, shared by convolution and pooling."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dlcore.nn._dtypes import widely
from dlcore.setting import Size, whole

Sizes: TypeAlias = Size | Sequence[Size]
"""A whole number for all spatial axes or one per axis."""

Padding: TypeAlias = str | Size | Sequence[Size | Sequence[Size]]
"""`"valid"`, `"zero"` or `"same"`, `"mirror"` or `"reflect"`, `"periodic"` or `"circular"`; or zeros to add: one number
for all sides, or per axis a number for both sides or a pair (low, high). `(1, 2)` adds 1 on both sides of the first of
two axes and 2 on those of the second.

The named ones other than valid keep ⌈n/stride⌉ positions and put the odd cell at the high side. That is `"SAME"` of
XLA, Flax and TensorFlow, hence the second name of zero. PyTorch's layers pad by numbers, alike on both sides: the two
differ at a stride of 2 where the size is even.
"""

MIRROR, PERIODIC = ("mirror", "reflect"), ("periodic", "circular")
MODES = {
    **dict.fromkeys(("zero", "same"), "constant"),
    **dict.fromkeys(MIRROR, "reflect"),
    **dict.fromkeys(PERIODIC, "wrap"),
}


def per_axis(value: Any, axes: int, name: str) -> tuple[int, ...]:
    """One positive number per spatial axis; raises `ValueError` for a wrong count or what is not a whole number ≥ 1."""
    try:
        values = tuple(value)
    except TypeError:
        values = (value,) * axes
    if isinstance(value, str) or len(values) != axes:
        raise ValueError(f"{name} must be a positive int or {axes} of them, got {value!r}")
    return tuple(whole(v, name) for v in values)


def check_window(name: str, padding: Padding = "valid", **sizes: Any) -> None:
    """Raises `ValueError` in the name of the layer for sizes and padding that fit no number of axes."""
    for argument, value in sizes.items():
        if not per_axis(value, _count(value), f"{name}: {argument}"):
            raise ValueError(f"{name}: {argument} must be a positive int or one per axis, got {value!r}")
    if not isinstance(padding, str):
        _explicit(padding, _count(padding), f"{name}: padding")
    elif padding != "valid":
        _mode(padding, f"{name}: padding")


def _count(value: Any) -> int:
    try:
        return len(value)
    except TypeError:
        return 1


def _mode(padding: str, name: str = "padding") -> str:
    if padding not in MODES:
        raise ValueError(
            f"{name} must be valid, zero, same, mirror, reflect, periodic, circular, an int or pairs; got {padding!r}"
        )
    return MODES[padding]


def pad_widths(
    space: Sequence[int], window: Sequence[int], stride: Sequence[int], dilation: Sequence[int], padding: Padding
) -> list[tuple[int, int]]:
    """Cells to add (low, high) on each spatial axis; raises `ValueError` when the window does not fit."""
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    if isinstance(padding, str) and padding == "valid":
        widths = [(0, 0)] * len(space)
    elif isinstance(padding, str):
        _mode(padding)
        totals = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(space, stride, reach, strict=True)]
        widths = [(total // 2, total - total // 2) for total in totals]
    else:
        widths = _explicit(padding, len(space))
    for n, r, (low, high) in zip(space, reach, widths, strict=True):
        if r > n + low + high:
            raise ValueError(
                f"window reaches over {r} cells, but the padded axis has {n + low + high}; use a smaller window"
            )
    return widths


def _explicit(padding: Any, axes: int, name: str = "padding") -> list[tuple[int, int]]:
    """Widths from one number, a number per axis or a pair per axis."""
    try:
        sides = list(padding)
    except TypeError:
        sides = [padding] * axes
    pairs = [tuple(side) if np.ndim(side) else (side, side) for side in sides]
    if len(pairs) != axes or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"{name} must be a name, one int, or for each of the {axes} axes an int or (low, high), got {padding!r}"
        )
    return [(whole(low, name, least=0), whole(high, name, least=0)) for low, high in pairs]


def copies(padding: Padding) -> bool:
    """Whether added cells are copies of the input's rather than zeros."""
    return isinstance(padding, str) and padding in (*MIRROR, *PERIODIC)


def check_seen(window: Sequence[int], widths: Sequence[tuple[int, int]]) -> None:
    """Raise `ValueError` where padding is as wide as the pooling window, which would then see added cells alone."""
    for w, width in zip(window, widths, strict=True):
        if max(width) >= w:
            raise ValueError(
                f"pooling: padding {tuple(widths)} lets a window {tuple(window)} see added cells alone, which have no "
                f"maximum and no mean; use padding smaller than the window"
            )


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
    limit = -1 if padding in MIRROR else 0
    for n, (low, high) in zip(x.shape[1:-1], widths, strict=True):
        if max(low, high) > n + limit:
            raise ValueError(
                f"{padding} padding by {max(low, high)} needs more than the {n} cells of the axis; use zero"
            )
    return widely(lambda x: jnp.pad(x, [(0, 0), *widths, (0, 0)], mode=MODES[padding]), x)
