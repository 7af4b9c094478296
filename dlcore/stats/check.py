"""Whether masses and densities are what they claim to be (lecture 2.1–2.2).

Values can only be looked at outside `jit`, `grad` and `vmap`: there a bad one raises, inside nothing is looked at.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num


def tolerance(dtype: np.dtype) -> float:
    """How far from 1 a total may be: half the digits of its dtype, 3e-4 in float32 and 1.5e-8 in float64."""
    return float(jnp.finfo(dtype).eps) ** 0.5


def check_mass(mass: Num[Array, "*s"], name: str) -> None:
    """Raises `ValueError`, naming `name`, for a mass or density that is negative or not finite."""
    if isinstance(mass, jax.core.Tracer):
        return
    values = np.asarray(mass, np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got {int((~np.isfinite(values)).sum())} entries that are not")
    if (values < 0).any():
        raise ValueError(f"{name} must not be negative, its smallest entry is {values.min():g}")


def check_pmf(mass: Num[Array, "*s"], name: str, axis: int | tuple[int, ...] | None = None) -> None:
    """Raises `ValueError`, naming `name`, unless the mass is not negative and sums to 1 over `axis`, by default all."""
    if isinstance(mass, jax.core.Tracer):
        return
    check_mass(mass, name)
    total = np.asarray(mass, np.float64).sum(axis)
    furthest = float(total.flat[np.abs(total - 1).argmax()]) if total.size else 1.0
    if abs(furthest - 1) > tolerance(mass.dtype):
        raise ValueError(f"{name} must sum to 1, got {furthest:g}; divide by its sum")


def check_possible(evidence: Num[Array, ""], event: str) -> None:
    """Raises `ValueError` when what is conditioned on has probability or density 0."""
    if not isinstance(evidence, jax.core.Tracer) and not float(evidence) > 0:
        raise ValueError(f"cannot condition on {event}: its probability is {float(evidence):g}")
