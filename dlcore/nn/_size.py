"""Sizes: whole numbers of features, groups and cells, of Python's or of NumPy's make."""

import operator
from typing import Any, SupportsIndex, TypeAlias

Size: TypeAlias = SupportsIndex
"""A whole number: an int, or an integer of NumPy's."""


def whole(value: Any, name: str, *, least: int = 1) -> int:
    """`value` as an int of at least `least`.

    Raises `ValueError` for less and for what does not count, such as a boolean or a fraction, also 2.0.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number
