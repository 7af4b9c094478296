"""Whether masses and densities are what they claim to be (lecture 2.1–2.2).

Values can only be looked at outside `jit`, `grad` and `vmap`: there a bad one raises, inside nothing is looked at.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Num

from dlcore.setting import traced


def check_positive(name: str, **settings: Any) -> None:
    """Raises `ValueError`, naming function and setting, unless each setting is above 0; traced ones pass."""
    for setting, value in settings.items():
        if not traced(value) and not (np.asarray(value) > 0).all():
            raise ValueError(f"{name}: {setting} must be positive, got {value}")


def check_same_batch(name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises `ValueError`, naming both shapes, unless all are scalars, or of one rank and equal up to sizes of 1.

    What NumPy broadcasts beside that, such as [n, 1] with [n] to [n, n], is nearly always a mistake.
    """
    (first, *others) = sorted(shapes.items(), key=lambda item: -len(item[1]))
    for other, shape in others:
        pairs = zip(first[1], shape, strict=False)
        if shape and (len(shape) != len(first[1]) or any(a != b and 1 not in (a, b) for a, b in pairs)):
            raise ValueError(
                f"{name}: {first[0]} of shape {first[1]} and {other} of shape {shape} do not go together; "
                "give both the same shape, or one of them none"
            )


def tolerance(dtype: np.dtype) -> float:
    """How far from 1 a total may be: half the digits of its dtype, 3e-4 in float32, 1.5e-8 in float64, no integer's."""
    return float(jnp.finfo(dtype).eps) ** 0.5 if jnp.issubdtype(dtype, jnp.floating) else 0.0


def check_mass(mass: Num[ArrayLike, "*s"], name: str) -> None:
    """Raises `ValueError`, naming `name`, for a mass or density that is negative or not finite."""
    if traced(mass):
        return
    values = np.asarray(mass, np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got {int((~np.isfinite(values)).sum())} entries that are not")
    if (values < 0).any():
        raise ValueError(f"{name} must not be negative, its smallest entry is {values.min():g}")


def check_pmf(mass: Num[ArrayLike, "*s"], name: str, axis: int | tuple[int, ...] | None = None) -> None:
    """Raises `ValueError`, naming `name`, unless the mass is not negative and sums to 1 over `axis`, by default all."""
    if traced(mass):
        return
    check_mass(mass, name)
    total = np.asarray(mass, np.float64).sum(axis)
    furthest = float(total.flat[np.abs(total - 1).argmax()]) if total.size else 1.0
    if abs(furthest - 1) > tolerance(mass.dtype):
        raise ValueError(f"{name} must sum to 1, got {furthest:g}; divide by its sum")


def check_possible(evidence: Num[ArrayLike, ""], event: str) -> None:
    """Raises `ValueError` when what is conditioned on has probability or density 0."""
    if not traced(evidence) and not float(evidence) > 0:
        raise ValueError(f"cannot condition on {event}: its probability is {float(evidence):g}")
