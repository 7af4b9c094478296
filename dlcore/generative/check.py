"""Refusing what would give a wrong number in silence: shapes that would broadcast, settings out of range.

Shapes are looked at when a function is traced, which costs nothing afterwards. Values can only be looked at outside
`jit`, `grad` and `vmap`: there a bad one raises, inside it passes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlcore.setting import Number, traced


def has_shape(name: str, argument: str, array: Any, shape: Sequence[int], reason: str) -> None:
    """Raises `ValueError`, naming both shapes and the reason, unless the array has that shape."""
    if _shape(array) != tuple(shape):
        raise ValueError(f"{name}: {argument} has shape {_shape(array)}; it must be {tuple(shape)}, {reason}")


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(array.shape) if hasattr(array, "shape") else np.shape(array)


def like_examples(name: str, argument: str, values: Any, x: Any) -> None:
    """Raises `ValueError` unless there is one number per example of x [b, ...]."""
    has_shape(name, argument, values, _shape(x)[:1], f"one number for each example of x {_shape(x)}")


def in_range(name: str, argument: str, value: Number, holds: Callable[[Any], Any], wanted: str) -> None:
    """Raises `ValueError` for a setting that is no single number, or one whose value is known and does not hold."""
    if _shape(value):
        raise ValueError(f"{name}: {argument} must be a single number, got shape {_shape(value)}")
    if not traced(value) and not holds(np.asarray(value)):
        raise ValueError(f"{name}: {argument} must {wanted}, got {value}")


def is_zero(value: Number) -> bool:
    """Whether a setting is known to be 0, so that what it weighs need not be computed."""
    return not traced(value) and bool(np.asarray(value) == 0)
