"""Angles between subspaces: how far two sets of directions span the same (lecture 20.1)."""

import jax.numpy as jnp
from jaxtyping import Float

from dlcore.precision import matmul
from dlcore.retrieval._pca import Array


def principal_angles(a: Float[Array, "k _"], b: Float[Array, "m _"]) -> Float[Array, " min(k,m)"]:
    """Principal angles θ_1 ≤ θ_2 ≤ … between the spans of the rows, in radians, from 0 to π/2.

    cos θ_i are the singular values of A Bᵀ for orthonormal bases A, B. Cosines lose half the digits of small angles:
    those below π/4 are taken from their sines, the singular values of B − (B Aᵀ) A (Björck & Golub 1973). Rows need be
    neither orthogonal nor of unit length, but independent. Raises `ValueError` for spaces of different dimension.

    >>> round(float(principal_angles(jnp.array([[1.0, 0, 0]]), jnp.array([[0, 2.0, 0]]))[0]), 4)
    1.5708
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"principal_angles: expected rows of the same length, got {a.shape} and {b.shape}")
    if max(len(a), len(b)) > a.shape[1]:
        raise ValueError(f"principal_angles: {len(a)} and {len(b)} rows of {a.shape[1]} numbers are not independent")
    a, b = (a, b) if len(a) >= len(b) else (b, a)
    a, b = (jnp.linalg.qr(rows.T)[0].T for rows in (a, b))
    overlap = matmul(b, a.T)
    cosines = jnp.linalg.svd(overlap, compute_uv=False)
    sines = jnp.linalg.svd(b - matmul(overlap, a), compute_uv=False)[::-1]
    return jnp.where(cosines**2 > 0.5, jnp.arcsin(jnp.clip(sines, 0, 1)), jnp.arccos(jnp.clip(cosines, 0, 1)))
