"""A regression problem whose truth is known, and polynomials of every capacity fitted to it (lecture 1.4–1.6, 3.5).

Polynomials are written in Legendre's basis, orthogonal on [−1, 1], so that high degrees stay well conditioned. All
fits are pure functions of arrays: `vmap` them over training sets.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.optim import solve_ridge
from dlcore.precision import matmul
from dlcore.types import Key


def truth(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """f(x) = sin(πx) + ½ cos(2πx): smooth, and no polynomial."""
    return jnp.sin(math.pi * x) + 0.5 * jnp.cos(2 * math.pi * x)


def problem(key: Key, size: int, noise: float) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """A training set: x uniform in each of n equal cells of [−1, 1], y = f(x) + N(0, noise²).

    The cells keep fits of high degree from being all about gaps between points.
    """
    x = 2 * (jnp.arange(size) + jax.random.uniform(jax.random.fold_in(key, 0), (size,))) / size - 1
    return x, truth(x) + noise * jax.random.normal(jax.random.fold_in(key, 1), (size,), x.dtype)


def legendre(x: Float[Array, " n"], degree: int) -> Float[Array, "n columns"]:
    """√(2k + 1) P_k(x) for k = 0 … degree: columns of mean square 1 over [−1, 1].

    By (k + 1) P_{k+1} = (2k + 1) x P_k − k P_{k−1}. Raises `ValueError` for a negative degree.
    """
    if degree < 0:
        raise ValueError(f"degree must not be negative, got {degree}")
    columns = [jnp.ones_like(x), x]
    for k in range(1, degree):
        columns.append(((2 * k + 1) * x * columns[k] - k * columns[k - 1]) / (k + 1))
    return jnp.stack([math.sqrt(2 * k + 1) * column for k, column in enumerate(columns[: degree + 1])], -1)


def fit_degrees(
    x: Float[Array, " n"], y: Float[Array, "..."], degree: int, *, weight: Float[Array, "..."] | None = None
) -> Float[Array, "fits columns"]:
    """Least squares of every degree 0 … `degree` at once; row d has zeros beyond column d.

    The fits are nested. With V = QR, the first d + 1 columns of V span those of Q, so that R c_d = Qᵀy cut off behind
    entry d gives each of them from one factorisation. `weight` counts rows by its value; 0 leaves one out. Raises
    `ValueError` for fewer than degree + 1 rows, and for shapes that differ.
    """
    _check_sample("fit_degrees", x, y, jnp.shape(y) if weight is None else weight.shape)
    if len(x) < degree + 1:
        raise ValueError(f"{len(x)} rows do not determine a polynomial of degree {degree}; use at most {len(x) - 1}")
    root = jnp.ones_like(x) if weight is None else jnp.sqrt(weight)
    Q, R = jnp.linalg.qr(root[:, None] * legendre(x, degree))
    targets = jnp.triu(jnp.broadcast_to(matmul(Q.T, root * y)[:, None], R.shape))
    return jax.scipy.linalg.solve_triangular(R, targets).T


def fit_ridge(
    x: Float[Array, " n"], y: Float[Array, "..."], degree: int, penalties: Float[Array, " fits"]
) -> Float[Array, "fits columns"]:
    """argmin_c ‖V c − y‖² + α‖c‖² for each penalty α > 0.

    Raises `ValueError` for a penalty that is not positive (not looked at under jit), and for shapes that differ.
    """
    _check_sample("fit_ridge", x, y, y.shape)
    if not isinstance(penalties, jax.core.Tracer) and not (np.asarray(penalties) > 0).all():
        raise ValueError(f"fit_ridge: penalties must be positive, got {penalties}")
    V = legendre(x, degree)
    return jax.vmap(lambda alpha: solve_ridge(V, y, alpha))(penalties)


def predict(coefficients: Float[Array, "*fits columns"], x: Float[Array, " n"]) -> Float[Array, "*fits n"]:
    """The polynomials at x."""
    return matmul(coefficients, legendre(x, coefficients.shape[-1] - 1).T)


def _check_sample(name: str, x: Array, y: Array, weight: tuple[int, ...]) -> None:
    if x.ndim != 1 or not x.shape == y.shape == weight:
        raise ValueError(f"{name}: x, y and weight must be [n], got shapes {x.shape}, {y.shape} and {weight}")
