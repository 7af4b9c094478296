"""Gauss–Newton and Levenberg–Marquardt: least squares by linearised residuals (lecture 5.9)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dlcore.optim._least_squares import solve_svd
from dlcore.optim._line_search import Search, backtracking
from dlcore.optim._minimize import Function, Iterate, Method, state
from dlcore.precision import matmul
from dlcore.types import Key


def gauss_newton(*, search: Search | None = None) -> Method:
    """Minimises ½‖r(θ)‖² by θ ← θ + t d with d the least-squares solution of J d = −r, of any rank.

    Exact in one step where r is linear. Armijo's line search from t = 1 unless another is given. The Jacobian
    counts n evaluations.
    """
    find = backtracking() if search is None else search

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        residuals, J = now.memory
        direction = -solve_svd(J, residuals)
        found = find(lambda x: _half_square(f(x)), now.x, now.value, matmul(J.T, residuals), direction)
        return _at(f, now.x + found.step * direction, now, found.evaluations)

    return Method(_start, step, residuals=True)


def levenberg_marquardt(damping: float = 1e-3, *, factor: float = 3.0) -> Method:
    """d minimises ‖J d + r‖² + μ ‖d‖²; a step that lowers ½‖r‖² is taken and μ divided by `factor`, else μ grows.

    μ starts at `damping` times the largest entry of diag(JᵀJ) (Levenberg 1944, Marquardt 1963; Madsen et al. 2004,
    algorithm 3.16). The step is the solution of the stacked system [J; √μ I] d = [−r; 0] by QR, whose condition is not
    squared. A refused step counts with the length that it would have had.
    """

    def init(f: Function, x0: Array, key: Key | None) -> Iterate:
        start = _start(f, x0, key)
        J = start.memory[1]
        return start._replace(memory=(*start.memory, damping * jnp.maximum(jnp.square(J).sum(0).max(), 1e-30)))

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        residuals, J, weight = now.memory
        size = now.x.size
        Q, R = jnp.linalg.qr(jnp.concatenate([J, jnp.sqrt(weight) * jnp.eye(size, dtype=J.dtype)]))
        direction = -jnp.linalg.solve(R, matmul(Q[: len(residuals)].T, residuals))
        new = _at(f, now.x + direction, now, 0)
        better = new.value < now.value
        kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, now._replace(memory=now.memory[:2]))
        # In between, residual and damping stay finite: μ cannot leave the range of float32 before the step vanishes.
        weight = jnp.clip(jnp.where(better, weight / factor, weight * factor), 1e-30, 1e30)
        length = jnp.linalg.norm(direction)
        return kept._replace(step_size=length, evaluations=new.evaluations, memory=(*kept.memory, weight))

    return Method(init, step, residuals=True)


def _half_square(residuals: Array) -> Array:
    return 0.5 * matmul(residuals, residuals)


def _start(f: Function, x0: Array, key: Key | None) -> Iterate:
    return _at(f, x0, None, 0)


def _at(f: Function, x: Array, before: Iterate | None, spent: Array | int) -> Iterate:
    residuals, J = f(x), jax.jacobian(f)(x)
    size = jnp.inf if before is None else jnp.linalg.norm(x - before.x)
    count = spent + 1 + x.size + (0 if before is None else before.evaluations)
    norm = jnp.linalg.norm(matmul(J.T, residuals))
    value = _half_square(residuals)
    return state(x, value, gradient_norm=norm, step_size=size, evaluations=count, memory=(residuals, J))
