"""Numbers that things are made with: checked where they are known, traced where training anneals or searches them."""

from typing import Any, TypeAlias

import jax
from jax.typing import ArrayLike
from jaxtyping import Num

Number: TypeAlias = Num[ArrayLike, ""]
"""A number of Python, NumPy or JAX, traced or not."""


def traced(*values: Any) -> bool:
    """Whether some leaf is inside `jit`, `grad` or `vmap`, where its value cannot be looked at."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def known(value: Number) -> float | None:
    """The number, or None where it is traced: inside `jit`, `grad` and `vmap` nothing can be asked of it."""
    return None if traced(value) else float(value)
