"""Binary codes without a network (lecture 20.2): random directions, principal directions, and the latter turned.

All are `LinearCode`s: bit j is 1 where w_j · (x − μ) ≥ 0.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Num

from dlcore.operands import wide
from dlcore.precision import matmul
from dlcore.retrieval._codes import bits
from dlcore.retrieval._pca import PCA, Array, transform
from dlcore.types import Key


class LinearCode(NamedTuple):
    """Directions, and the mean of the data that they were made for."""

    directions: Float[Array, "b d"]
    mean: Float[Array, " d"]


def encode(code: LinearCode, x: Num[Array, "n d"]) -> Bool[Array, "n b"]:
    """Codes of rows, one bit per direction. Raises `ValueError` for another number of features."""
    if x.shape[-1] != code.directions.shape[1]:
        raise ValueError(f"encode: expected {code.directions.shape[1]} features, as fitted, got {x.shape[-1]}")
    return bits(matmul(wide(jnp.asarray(x), "encode") - jnp.asarray(code.mean), jnp.asarray(code.directions).T))


def random_hyperplanes(mean: Float[Array, " d"], n_bits: int, *, key: Key) -> LinearCode:
    """LSH by random hyperplanes: P(a bit differs) = angle between two rows / π (Charikar 2002). For several tables take
    several keys."""
    return LinearCode(jax.random.normal(key, (n_bits, len(mean))), mean)


def principal_signs(pca: PCA) -> LinearCode:
    """Signs of the principal components: bit by bit the directions along which the data vary most."""
    return LinearCode(pca.components, pca.mean)


def iterative_quantisation(pca: PCA, x: Num[Array, "n d"], *, key: Key, iterations: int = 50) -> LinearCode:
    """ITQ: components turned so that the codes of x lie near ±1 (Gong, Lazebnik, Gordo & Perronnin 2013).

    min ‖B − Z R‖² over orthogonal R and B = sign(Z R), Z the principal codes of `x`, by turns: R = U Vᵀ of the
    singular value decomposition Zᵀ B = U S Vᵀ, which never raises the error. The start is a random rotation.
    """
    return _quantise(pca, wide(jnp.asarray(x), "iterative_quantisation"), key, iterations)


@functools.partial(jax.jit, static_argnums=3)
def _quantise(pca: PCA, x: Float[Array, "n d"], key: Key, iterations: int) -> LinearCode:
    z = transform(pca, x)
    start, _ = jnp.linalg.qr(jax.random.normal(key, (z.shape[1],) * 2, z.dtype))

    def turn(_: Array, rotation: Array) -> Array:
        corners = jnp.where(matmul(z, rotation) >= 0, 1.0, -1.0)
        u, _, v = jnp.linalg.svd(matmul(z.T, corners))
        return matmul(u, v)

    rotation = jax.lax.fori_loop(0, iterations, turn, start)
    return LinearCode(matmul(rotation.T, jnp.asarray(pca.components)), jnp.asarray(pca.mean))
