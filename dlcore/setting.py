"""Numbers that things are made with: checked where they are known, traced where training anneals or searches them."""

from typing import TypeAlias

import jax
from jax.typing import ArrayLike
from jaxtyping import Num

Number: TypeAlias = Num[ArrayLike, ""]
"""A number of Python, NumPy or JAX, traced or not."""


def known(value: Number) -> float | None:
    """The number, or None where it is traced: inside `jit`, `grad` and `vmap` nothing can be asked of it."""
    return None if isinstance(value, jax.core.Tracer) else float(value)
