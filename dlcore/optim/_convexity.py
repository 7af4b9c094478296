"""Convexity seen on samples, and the kinds of critical points (lecture 4.2, 5.8)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.precision import highest

Scalar = Callable[[Float[Array, " d"]], Float[Array, ""]]


@highest
def jensen_gaps(f: Scalar, x: Float[Array, "n d"], y: Float[Array, "m e"], t: Float[Array, " k"]) -> Float[Array, " n"]:
    """t f(x) + (1 − t) f(y) − f(t x + (1 − t) y): never negative for a convex f; one negative gap refutes it.

    Raises `ValueError` for shapes that differ.
    """
    if x.ndim != 2 or x.shape != y.shape or t.shape != x.shape[:1]:
        raise ValueError(f"jensen_gaps: x and y must be [n, d] and t [n], got shapes {x.shape}, {y.shape}, {t.shape}")
    between = t[:, None] * x + (1 - t[:, None]) * y
    at_x, at_y, at_between = (jax.vmap(f)(points) for points in (x, y, between))
    return t * at_x + (1 - t) * at_y - at_between


@highest
def least_curvatures(f: Scalar, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The smallest eigenvalue of the Hessian at every point: a convex f has none below 0."""
    return jax.vmap(lambda point: jnp.linalg.eigvalsh(jax.hessian(f)(point))[0])(x)


@highest
def looks_convex(f: Scalar, x: Float[Array, "n d"], *, tolerance: float = 1e-4) -> bool:
    """Whether neither test refutes convexity at n sampled points, the gaps between each and the next.

    Gaps count from −`tolerance` times the values' size on, curvatures from −`tolerance` times the largest |λ|: rounding
    makes zeros negative. A proof only of the negative. Raises `ValueError` when f is not finite at the points.
    """
    y, t = jnp.roll(x, 1, axis=0), jnp.linspace(0.1, 0.9, len(x))
    values = jax.vmap(f)(x)
    if not np.isfinite(values).all():
        raise ValueError(f"looks_convex: f is not finite at {int((~np.isfinite(values)).sum())} of {len(x)} points")
    spectra = jax.vmap(lambda point: jnp.linalg.eigvalsh(jax.hessian(f)(point)))(x)
    slack = tolerance * jnp.maximum(jnp.abs(values), jnp.abs(jnp.roll(values, 1)))
    gaps_hold = (jensen_gaps(f, x, y, t) >= -slack).all()
    return bool(gaps_hold & (spectra[:, 0] >= -tolerance * jnp.abs(spectra).max()).all())


@highest
def critical_point(f: Scalar, x: Float[Array, " d"], *, tolerance: float = 1e-3) -> str:
    """What kind of point x is: "minimum", "maximum", "saddle", "degenerate", or "not critical" (lecture 5.8).

    Curvatures within `tolerance` of 0 relative to the largest |λ| decide nothing, hence "degenerate" unless the others
    have both signs; a gradient above `tolerance` times the largest |λ| (or 1) is not critical.
    """
    spectrum = np.asarray(jnp.linalg.eigvalsh(jax.hessian(f)(x)))
    largest = np.abs(spectrum).max()
    if np.linalg.norm(jax.grad(f)(x)) > tolerance * max(largest, 1.0):
        return "not critical"
    positive, negative = (spectrum > tolerance * largest), (spectrum < -tolerance * largest)
    if positive.any() and negative.any():
        return "saddle"
    return "minimum" if positive.all() else "maximum" if negative.all() else "degenerate"
