"""Newton's method, damped, and without forming the Hessian (lecture 5.9)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dlcore.optim._curvature import hvp
from dlcore.optim._descent import at
from dlcore.optim._line_search import Search, backtracking
from dlcore.optim._minimize import Function, Iterate, Method
from dlcore.precision import matmul
from dlcore.types import Key


def newton() -> Method:
    """θ ← θ − H⁻¹ g: one step solves a quadratic; near a saddle it goes to the saddle, whatever its sign.

    A singular Hessian ends the run as diverged. The Hessian counts n evaluations.
    """

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        return at(f, now.x - jnp.linalg.solve(jax.hessian(f)(now.x), now.memory[0]), now, now.x.size)

    return Method(_start, step)


def damped_newton(*, search: Search | None = None, floor: float = 1e-6) -> Method:
    """θ ← θ − t |H|⁻¹ g with a line search for t, Armijo's from t = 1 unless given.

    |H| has the eigenvectors of H and the absolute eigenvalues, at least `floor` times the largest, so that −|H|⁻¹g
    always descends: it leaves saddles (Dauphin et al. 2014). The Hessian counts n evaluations.
    """
    find = backtracking() if search is None else search

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        gradient = now.memory[0]
        values, vectors = jnp.linalg.eigh(jax.hessian(f)(now.x))
        sizes = jnp.abs(values)
        sizes = jnp.maximum(sizes, floor * sizes.max())
        # Where H = 0 there is no curvature to divide by: steepest descent.
        direction = -matmul(vectors, matmul(vectors.T, gradient) / jnp.where(sizes > 0, sizes, 1.0))
        found = find(f, now.x, now.value, gradient, direction)
        return at(f, now.x + found.step * direction, now, found.evaluations + now.x.size)

    return Method(_start, step)


def newton_cg(*, search: Search | None = None, most: int = 0, forcing: float = 0.1) -> Method:
    """Newton's direction by at most `most` (0: n) conjugate gradients, each one Hessian-vector product.

    The inner iteration ends at a residual of min(`forcing`, √‖g‖) ‖g‖ or at a direction of non-positive curvature
    (Nocedal & Wright 2006, algorithm 7.1), so that the direction descends; Armijo's line search from t = 1 unless
    another is given.
    """
    find = backtracking() if search is None else search

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        gradient = now.memory[0]
        direction, products = _conjugate_gradients(f, now.x, gradient, most or now.x.size, forcing)
        found = find(f, now.x, now.value, gradient, direction)
        return at(f, now.x + found.step * direction, now, found.evaluations + products)

    return Method(_start, step)


def _start(f: Function, x0: Array, key: Key | None) -> Iterate:
    return at(f, x0, None, 0)


def _conjugate_gradients(f: Function, x: Array, gradient: Array, most: int, forcing: float) -> tuple[Array, Array]:
    """An approximate solution z of H z = −g, and the number of products that it took."""
    norm = jnp.linalg.norm(gradient)
    enough = jnp.minimum(forcing, jnp.sqrt(norm)) * norm

    def body(carry: Any) -> Any:
        z, r, d, j, _ = carry
        product = hvp(f, x, d)
        curvature = matmul(d, product)
        concave = curvature <= 0
        length = matmul(r, r) / jnp.where(concave, 1.0, curvature)
        after = r + length * product
        ahead = d * (matmul(after, after) / matmul(r, r)) - after
        # Before any progress the way down is −g itself.
        z = jnp.where(concave, jnp.where(j == 0, -gradient, z), z + length * d)
        return z, after, ahead, j + 1, concave | (jnp.linalg.norm(after) <= enough)

    def going(carry: Any) -> Array:
        return ~carry[-1] & (carry[-2] < most)

    start = (jnp.zeros_like(x), gradient, -gradient, jnp.int32(0), norm == 0)
    z, _, _, products, _ = jax.lax.while_loop(going, body, start)
    return z, products
