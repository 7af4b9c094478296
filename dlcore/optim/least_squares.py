"""min ‖Ax − b‖² in closed form, A the `matrix` and b the `target` (lecture 4.3.1)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.precision import matmul


def solve_qr(matrix: Float[Array, "m n"], target: Float[Array, " m"]) -> Float[Array, " n"]:
    """x = R⁻¹Qᵀb with A = QR, for m ≥ n and independent columns.

    Raises `ValueError` for entries that are not finite, and when a column of A depends on the others (|R_ii| below
    machine precision · max(m, n) · the largest), where `solve_svd` still answers. Needs concrete values for that: not
    for use under jit.
    """
    _check_finite("solve_qr", matrix, target)
    rows, columns = matrix.shape
    if rows < columns:
        raise ValueError(f"solve_qr: {rows} equations for {columns} unknowns; use solve_svd for the smallest solution")
    Q, R = jnp.linalg.qr(matrix)
    sizes = np.abs(np.diagonal(R))
    if not sizes.min() > rank_tolerance(matrix) * sizes.max():
        raise ValueError(
            f"solve_qr: A is singular to working precision, column {int(sizes.argmin())} depends on the others; "
            "use solve_svd or solve_ridge"
        )
    return jnp.linalg.solve(R, matmul(Q.T, target))


def solve_svd(
    matrix: Float[Array, "m n"], target: Float[Array, " m"], *, rcond: float | None = None
) -> Float[Array, " n"]:
    """x = A⁺b, of all minimisers the smallest, for any rank.

    Singular values up to `rcond` times the largest count as 0; by default machine precision · max(m, n). Raises
    `ValueError` for entries that are not finite (not looked at under jit).
    """
    _check_finite("solve_svd", matrix, target)
    U, sizes, V = jnp.linalg.svd(matrix, full_matrices=False)
    kept = sizes > (rank_tolerance(matrix) if rcond is None else rcond) * sizes[0]
    return matmul(V.T, jnp.where(kept, 1 / jnp.where(kept, sizes, 1.0), 0.0) * matmul(U.T, target))


def solve_ridge(matrix: Float[Array, "m n"], target: Float[Array, " m"], alpha: float) -> Float[Array, " n"]:
    """The minimiser (AᵀA + αI)⁻¹Aᵀb of ‖Ax − b‖² + α‖x‖², by the singular values of A (Tikhonov).

    AᵀA, whose condition is the square of A's, is never formed. Raises `ValueError` unless α > 0, and for entries that
    are not finite (not looked at under jit).
    """
    _check_finite("solve_ridge", matrix, target)
    if not alpha > 0:
        raise ValueError(f"solve_ridge: alpha must be positive, got {alpha}; use solve_svd for alpha = 0")
    U, sizes, V = jnp.linalg.svd(matrix, full_matrices=False)
    return matmul(V.T, sizes / (sizes**2 + alpha) * matmul(U.T, target))


def rank_tolerance(matrix: Float[Array, "m n"]) -> float:
    """Relative size below which a singular value of A is rounding: machine precision · max(m, n)."""
    return float(jnp.finfo(matrix.dtype).eps) * max(matrix.shape)


def _check_finite(name: str, *arrays: Array) -> None:
    for array, what in zip(arrays, ("matrix", "target"), strict=True):
        if not isinstance(array, jax.core.Tracer) and not np.isfinite(np.asarray(array)).all():
            raise ValueError(f"{name}: every entry of {what} must be finite")
