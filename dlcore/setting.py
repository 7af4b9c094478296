"""Numbers that things are made with: checked where they are known, traced where training anneals or searches them."""

import math
import operator
from typing import Any, SupportsIndex, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Num

Number: TypeAlias = Num[ArrayLike, ""]
"""A number of Python, NumPy or JAX, traced or not."""

Size: TypeAlias = SupportsIndex
"""A whole number: an int, or an integer of NumPy's."""


def traced(*values: Any) -> bool:
    """Whether some leaf is inside `jit`, `grad` or `vmap`, where its value cannot be looked at."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def known(value: Number) -> float | None:
    """The number, or None where it is traced: inside `jit`, `grad` and `vmap` nothing can be asked of it."""
    return None if traced(value) else float(value)


def number(value: Any, name: str, within: str | None = "(-∞, ∞)") -> Any:
    """`value`, a single real number, inside an interval such as "[0, 1)" where it is known; None asks for no interval.

    Raises `ValueError`, naming it, for what is no number, such as None, a string, a boolean or an array of several, and
    for one outside; a traced one passes.
    """
    dtype = getattr(value, "dtype", type(value))
    scalar = isinstance(value, int | float | np.generic | np.ndarray | jax.Array) and not np.shape(value)
    if not scalar or not any(jnp.issubdtype(dtype, kind) for kind in (np.integer, np.floating)):
        got = f"shape {value.shape}" if getattr(value, "shape", ()) else repr(value)
        raise ValueError(f"{name} must be a single number, got {got}")
    if within is None or traced(value):
        return value
    low, high = (math.inf * (-1 if "-" in end else 1) if "∞" in end else float(end) for end in within[1:-1].split(","))
    x = float(value)
    above, below = (x >= low if within[0] == "[" else x > low), (x <= high if within[-1] == "]" else x < high)
    if not (above and below):
        raise ValueError(f"{name} must lie in {within}, got {value}")
    return value


def whole(value: Any, name: str, *, least: int = 1) -> int:
    """`value` as an int of at least `least`.

    Raises `ValueError` for less and for what does not count, such as a boolean or a fraction, also 2.0.
    """
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None or count < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return count
