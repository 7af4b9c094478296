"""Refusing what would give a wrong number in silence: shapes that would broadcast, settings out of range.

Shapes are looked at when a function is traced, which costs nothing afterwards. Values can only be looked at outside
`jit`, `grad` and `vmap`: there a bad one raises, inside it passes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from dlcore.operands import has_shape, shape_of
from dlcore.setting import Number, number, traced


def like_examples(name: str, argument: str, values: Any, x: Any) -> None:
    """Raises `ValueError` unless there is one number per example of x [b, ...]."""
    has_shape(name, argument, values, shape_of(x)[:1], f"one number for each example of x {shape_of(x)}")


def in_range(name: str, argument: str, value: Number, holds: Callable[[Any], Any], wanted: str) -> None:
    """Raises `ValueError` for a setting that is no single number, or one whose value is known and does not hold."""
    number(value, f"{name}: {argument}", None)
    if not traced(value) and (np.isnan(value) or not holds(np.asarray(value))):
        raise ValueError(f"{name}: {argument} must {wanted}, got {value}")


def is_zero(value: Number) -> bool:
    """Whether a setting is known to be 0, so that what it weighs need not be computed."""
    return not traced(value) and bool(np.asarray(value) == 0)
