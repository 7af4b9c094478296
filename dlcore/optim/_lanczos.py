"""Eigenvalues of a symmetric matrix of which only products are known, such as a network's Hessian (lecture 5.7)."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from dlcore.precision import highest, matmul
from dlcore.setting import whole
from dlcore.types import Key

Product = Callable[..., Any]
"""`(v, *arguments) -> A v`, both with the structure of one pytree; A symmetric."""


class Tridiagonal(NamedTuple):
    """T = QᵀAQ on the Krylov space of the start vector: its diagonal [m], what lies beside it [m − 1], and the last β.

    β = `rest` couples what lies outside; 0 means that the space is invariant and T's eigenvalues are A's.
    """

    diagonal: np.ndarray
    beside: np.ndarray
    rest: float


class Extremes(NamedTuple):
    """The smallest and largest eigenvalue; A has one within `error` of each."""

    smallest: float
    largest: float
    error: float
    """The larger of the residual norms ‖A y − λ y‖ = β |last entry of the eigenvector of T|."""
    steps: int


class Density(NamedTuple):
    """A spectrum as point masses: eigenvalues of T per probe [p, m] and weights [p, m] that sum to 1 over a row."""

    nodes: np.ndarray
    weights: np.ndarray


def lanczos(product: Product, like: Any, *arguments: Any, steps: int, key: Key, tolerance: float = 0.0) -> Tridiagonal:
    """`steps` of Lanczos' iteration from a random unit vector with the structure of `like`, at most its size.

    Each new vector is made orthogonal to all before, twice: without it, rounding brings copies of eigenvalues
    already found (Parlett 1998, section 6.9). Keeps steps × n numbers. With a `tolerance` it ends as soon as both
    extreme eigenvalues have residuals below `tolerance` times themselves, looking every 10 steps. Runs on the host,
    each step compiled, since a product may hold convolutions, which are slow inside loops on CPU. Large arrays, such
    as params and data, belong into `arguments`: what a product closes over is a constant that the compiler works on.
    Raises `ValueError` when a product is not finite.
    """
    start, unravel = ravel_pytree(like)
    return _iterate(_advance(product, unravel), start, arguments, steps=steps, key=key, tolerance=tolerance)


def _iterate(
    advance: Callable[..., tuple[Array, Array, Array]],
    start: Array,
    arguments: tuple[Any, ...],
    *,
    steps: int,
    key: Key,
    tolerance: float = 0.0,
) -> Tridiagonal:
    count = min(whole(steps, "lanczos: steps"), whole(start.size, "lanczos: the size of `like`"))
    first = jax.random.normal(key, start.shape, start.dtype)
    basis = jnp.zeros((count, start.size), start.dtype).at[0].set(first / jnp.linalg.norm(first))
    alphas: list[float] = []
    betas: list[float] = []
    for k in range(count):
        basis, alpha, beta = advance(basis, k, *arguments)
        alphas.append(float(alpha))
        betas.append(float(beta))
        if not (math.isfinite(alphas[-1]) and math.isfinite(betas[-1])):
            raise ValueError(f"lanczos: the product is not finite at step {k}: vᵀAv = {alphas[-1]}")
        found = Tridiagonal(np.array(alphas), np.array(betas[:-1]), betas[-1])
        scale = max(map(abs, alphas + betas))
        if betas[-1] <= 10 * float(jnp.finfo(start.dtype).eps) * scale:
            return found._replace(rest=0.0)
        if tolerance and k % 10 == 9 and _settled(found, tolerance):
            break
    return found._replace(rest=0.0) if len(alphas) == start.size else found


def _advance(product: Product, unravel: Callable[[Array], Any]) -> Callable[..., tuple[Array, Array, Array]]:
    @functools.partial(jax.jit, donate_argnums=0)
    @highest
    def advance(basis: Array, k: Array, *arguments: Any) -> tuple[Array, Array, Array]:
        v = basis[k]
        w = ravel_pytree(product(unravel(v), *arguments))[0]
        alpha = matmul(v, w)
        for _ in range(2):
            # Rows not filled yet are zero and take nothing away.
            w = w - matmul(matmul(basis, w), basis)
        beta = jnp.linalg.norm(w)
        ahead = w / jnp.where(beta > 0, beta, 1.0)
        return basis.at[k + 1].set(ahead, mode="drop"), alpha, beta

    return advance


def eigen(found: Tridiagonal) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of T [m], ascending, and its eigenvectors as columns [m, m]."""
    T = np.diag(found.diagonal) + np.diag(found.beside, 1) + np.diag(found.beside, -1)
    return np.linalg.eigh(T)


def _settled(found: Tridiagonal, tolerance: float) -> bool:
    values, vectors = eigen(found)
    residuals = found.rest * np.abs(vectors[-1])
    return all(residuals[i] <= tolerance * abs(values[i]) for i in (0, -1))


def extreme_eigenvalues(
    product: Product, like: Any, *arguments: Any, key: Key, steps: int = 200, tolerance: float = 1e-4
) -> Extremes:
    """λmin and λmax of A, with the size of the residuals, to a relative `tolerance` or after `steps` products.

    For a network: `extreme_eigenvalues(lambda v, params: hvp(loss, params, v), params, params, key=key)`.
    """
    found = lanczos(product, like, *arguments, steps=steps, key=key, tolerance=tolerance)
    values, vectors = eigen(found)
    error = found.rest * max(abs(vectors[-1, 0]), abs(vectors[-1, -1]))
    return Extremes(float(values[0]), float(values[-1]), float(error), len(values))


def spectral_density(
    product: Product, like: Any, *arguments: Any, key: Key, steps: int = 80, probes: int = 4
) -> Density:
    """Stochastic Lanczos quadrature: point masses for the whole spectrum (Ghorbani et al. 2019, algorithm 1).

    For a random unit v, vᵀg(A)v = Σ_i τ_i² g(θ_i) to high degree in g, and its mean over v is tr g(A)/n. θ_i are
    T's eigenvalues and τ_i the first entries of its eigenvectors. Where the space turns out smaller than `steps`, rows
    are filled up with weights of 0.
    """
    rows = []
    start, unravel = ravel_pytree(like)
    advance = _advance(product, unravel)
    for i in range(probes):
        values, vectors = eigen(_iterate(advance, start, arguments, steps=steps, key=jax.random.fold_in(key, i)))
        rows.append((values, np.square(vectors[0])))
    most = max(len(values) for values, _ in rows)
    nodes = np.stack([np.pad(values, (0, most - len(values)), mode="edge") for values, _ in rows])
    weights = np.stack([np.pad(mass, (0, most - len(mass))) for _, mass in rows])
    return Density(nodes, weights)


def smooth(density: Density, at: Float[Array, " k"] | np.ndarray, width: float) -> np.ndarray:
    """The density at points [k], each mass spread as a normal of deviation `width` on the points' own scale."""
    nodes, weights = density.nodes.reshape(-1), density.weights.reshape(-1) / len(density.nodes)
    z = (np.asarray(at)[:, None] - nodes) / width
    return np.exp(-0.5 * z**2) @ weights / (width * math.sqrt(2 * math.pi))
