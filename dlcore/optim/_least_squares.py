"""min ‖Ax − b‖² in closed form, A the `matrix` and b the `target` (lecture 4.3.1).

Several targets are solved for at once when b is [m, k]: x is then [n, k]. Integers are computed as floats.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from dlcore.precision import highest, matmul
from dlcore.setting import Number, number

Matrix = Num[ArrayLike, "m n"]
Target = Num[ArrayLike, "o *k"]
Solution = Float[Array, "n *k"]


@highest
def solve_qr(matrix: Matrix, target: Target) -> Solution:
    """x = R⁻¹Qᵀb with A = QR, for m ≥ n and independent columns.

    Raises `ValueError` for shapes that do not fit, for entries that are not finite, and when a column of A depends on
    the others (|R_ii| below machine precision · max(m, n) · the largest), where `solve_svd` still answers; values are
    not looked at under jit.
    """
    A, b = _system("solve_qr", matrix, target)
    rows, columns = A.shape
    if rows < columns:
        raise ValueError(f"solve_qr: {rows} equations for {columns} unknowns; use solve_svd for the smallest solution")
    Q, R = jnp.linalg.qr(A)
    if not isinstance(R, jax.core.Tracer):
        sizes = np.abs(np.diagonal(R))
        if not sizes.min(initial=np.inf) > rank_tolerance(A) * sizes.max(initial=0.0):
            raise ValueError(
                f"solve_qr: A is singular to working precision, column {int(sizes.argmin())} depends on the others; "
                "use solve_svd or solve_ridge"
            )
    return jax.scipy.linalg.solve_triangular(R, matmul(Q.T, b))


@highest
def solve_svd(matrix: Matrix, target: Target, *, rcond: Number | None = None) -> Solution:
    """x = A⁺b, of all minimisers the smallest, for any rank.

    Singular values up to `rcond` times the largest count as 0; by default machine precision · max(m, n). Its derivative
    is that of A⁺ at constant rank, finite also where singular values are equal (Golub & Pereyra 1973, eq. 4.12). Raises
    `ValueError` for shapes that do not fit, and for entries that are not finite (not looked at under jit).
    """
    A, b = _system("solve_svd", matrix, target)
    return matmul(jnp.linalg.pinv(A, rtol=rank_tolerance(A) if rcond is None else rcond), b)


@highest
def solve_ridge(matrix: Matrix, target: Target, alpha: Number) -> Solution:
    """The minimiser (AᵀA + αI)⁻¹Aᵀb of ‖Ax − b‖² + α‖x‖² (Tikhonov): least squares of [A; √α I] x = [b; 0] by QR.

    AᵀA, whose condition is the square of A's, is never formed. α may be traced, to be searched or differentiated.
    Raises `ValueError` for shapes that do not fit, unless α > 0, and for entries that are not finite (values are not
    looked at under jit).
    """
    A, b = _system("solve_ridge", matrix, target)
    number(alpha, "solve_ridge: alpha (solve_svd takes none)", "(0, ∞)")
    root = jnp.sqrt(jnp.asarray(alpha, A.dtype))
    Q, R = jnp.linalg.qr(jnp.concatenate([A, root * jnp.eye(A.shape[1], dtype=A.dtype)]))
    return jax.scipy.linalg.solve_triangular(R, matmul(Q[: len(A)].T, b))


def rank_tolerance(matrix: Float[Array, "m n"]) -> float:
    """Relative size below which a singular value of A is rounding: machine precision · max(m, n)."""
    return float(jnp.finfo(matrix.dtype).eps) * max(matrix.shape)


def _system(name: str, matrix: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """A and b of one floating dtype, looked at."""
    A, b = jnp.asarray(matrix), jnp.asarray(target)
    if A.ndim != 2 or b.ndim not in (1, 2) or len(A) != len(b):
        raise ValueError(f"{name}: matrix must be [m, n] and target [m] or [m, k], got shapes {A.shape} and {b.shape}")
    for array, what in ((A, "matrix"), (b, "target")):
        if not isinstance(array, jax.core.Tracer) and not np.isfinite(np.asarray(array)).all():
            raise ValueError(f"{name}: every entry of {what} must be finite")
    dtype = jnp.promote_types(jnp.result_type(A, b, float), jnp.float32)
    return A.astype(dtype), b.astype(dtype)
