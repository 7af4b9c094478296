"""CMA-ES: a normal distribution that learns the shape of the valley (lecture 4.3.3; Hansen 2016)."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dlcore.optim._minimize import Function, Iterate, Method, Result, Trace, better_of, finite_or_worst, minimize, state
from dlcore.precision import matmul
from dlcore.setting import Number, number, whole
from dlcore.types import Key


class Search(NamedTuple):
    """The distribution N(m, σ²C), and the paths that its mean has evolved along."""

    mean: Array
    sigma: Array
    covariance: Array
    path: Array
    path_sigma: Array
    generation: Array
    improved: Array
    """The generation that last found a better point."""


class Constants(NamedTuple):
    """Weights of the better half, their effective number, and learning rates (Hansen 2016, table 1)."""

    weights: np.ndarray
    mass: float
    c_path: float
    c_sigma: float
    damping: float
    c_one: float
    c_mu: float
    length: float


def constants(n: int, population: int) -> Constants:
    """Hansen's defaults for n dimensions, with positive weights alone."""
    raw = math.log((population + 1) / 2) - np.log(np.arange(1, population // 2 + 1))
    weights = raw / raw.sum()
    mass = float(1 / np.square(weights).sum())
    c_sigma = (mass + 2) / (n + mass + 5)
    c_one = 2 / ((n + 1.3) ** 2 + mass)
    return Constants(
        weights=weights,
        mass=mass,
        c_path=(4 + mass / n) / (n + 4 + 2 * mass / n),
        c_sigma=c_sigma,
        damping=1 + 2 * max(0.0, math.sqrt((mass - 1) / (n + 1)) - 1) + c_sigma,
        c_one=c_one,
        c_mu=min(1 - c_one, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass)),
        length=math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n)),
    )


def default_population(n: int) -> int:
    """4 + ⌊3 ln n⌋."""
    return 4 + math.floor(3 * math.log(n))


def cma(sigma: Number, *, population: int = 0) -> Method:
    """Evolution strategy with covariance matrix adaptation, starting as N(x0, sigma² I).

    Every generation draws `population` points (0: 4 + ⌊3 ln n⌋), moves the mean to the weighted mean of the better
    half, and adapts the covariance C (rank one and rank μ) and the step size σ to the path of the mean. Points where f
    is not finite rank last. Invariant to rotations and to increasing maps of f. `step_size` is σ √λmax(C); it is
    "complete" after 50 + 30 n/population generations without a better point. Costs an eigendecomposition per
    generation: for up to some hundred dimensions. To 1e-8 in ten dimensions it needs at most 2,000 evaluations on the
    sphere and 12,500 on Rosenbrock's function with a population of 30; with the default one 6,500, but one run in
    twelve ends in the other minimum there. `minimize_with_restarts` goes on from such an end. Raises `ValueError`
    without a key.
    """
    number(sigma, "cma: sigma", "(0, ∞)")
    if whole(population, "cma: population", least=0) in (1, 2, 3):
        raise ValueError(f"cma: population must be at least 4 (0: default), got {population}")

    def init(f: Function, x0: Array, key: Key | None) -> Iterate:
        if key is None:
            raise ValueError("cma draws numbers; pass key=jax.random.key(seed)")
        zero = jnp.zeros_like(x0)
        start = jnp.asarray(sigma, x0.dtype)
        search = Search(x0, start, jnp.eye(x0.size, dtype=x0.dtype), zero, zero, jnp.int32(0), jnp.int32(0))
        return state(x0, f(x0), step_size=sigma, evaluations=1, memory=search)

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        n, size = now.x.size, population or default_population(now.x.size)
        squares, B = jnp.linalg.eigh(now.memory.covariance)
        D = jnp.sqrt(jnp.maximum(squares, jnp.finfo(now.x.dtype).eps * squares[-1]))
        y = matmul((jax.random.normal(key, (size, n), now.x.dtype) * D), B.T)
        x = now.memory.mean + now.memory.sigma * y
        values = finite_or_worst(jax.vmap(f)(x))
        order = jax.lax.top_k(-values, size // 2)[1]
        search = _adapt(now.memory, constants(n, size), y[order], B, D)
        better, best, value = better_of(x[order[0]], values[order[0]], now)
        search = search._replace(improved=jnp.where(better, search.generation, search.improved))
        stale = search.generation - search.improved > 50 + 30 * n // size
        spread, count = search.sigma * D[-1], now.evaluations + size
        return state(best, value, step_size=spread, evaluations=count, complete=stale, memory=search)

    return Method(init, step)


def _adapt(search: Search, c: Constants, y: Array, axes: Array, scales: Array) -> Search:
    """Mean, paths, covariance and step size from the better half of the steps, the best first (Hansen 2016, eq. 41–49).

    C = B D² Bᵀ with B = `axes` and D = `scales`.
    """
    weights = jnp.asarray(c.weights, y.dtype)
    move = matmul(weights, y)
    white = matmul(axes, matmul(axes.T, move) / scales)
    path_sigma = (1 - c.c_sigma) * search.path_sigma + math.sqrt(c.c_sigma * (2 - c.c_sigma) * c.mass) * white
    length = jnp.linalg.norm(path_sigma)
    expected = jnp.sqrt(1 - (1 - c.c_sigma) ** (2.0 * (search.generation + 1)))
    # A very long path means that σ is still too small; C must not grow instead.
    going = length / expected < (1.4 + 2 / (y.shape[1] + 1)) * c.length
    path = (1 - c.c_path) * search.path + going * math.sqrt(c.c_path * (2 - c.c_path) * c.mass) * move
    missing = (1 - going) * c.c_path * (2 - c.c_path)
    C = (1 - c.c_one - c.c_mu + c.c_one * missing) * search.covariance
    C = C + c.c_one * jnp.outer(path, path) + c.c_mu * matmul(y.T * weights, y)
    sigma = search.sigma * jnp.exp(jnp.minimum(1.0, c.c_sigma / c.damping * (length / c.length - 1)))
    return Search(
        search.mean + search.sigma * move,
        sigma,
        (C + C.T) / 2,
        path,
        path_sigma,
        search.generation + 1,
        search.improved,
    )


@functools.lru_cache(maxsize=64)
def _method(sigma: float, population: int) -> Method:
    return cma(sigma, population=population)


def minimize_with_restarts(
    f: Callable[[Any], Array],
    x0: Any,
    *,
    sigma: float,
    key: Key,
    population: int = 0,
    restarts: int = 5,
    evaluations: int = 100_000,
    target: float = -math.inf,
    step_tolerance: float = 1e-6,
) -> Result:
    """CMA-ES again and again from x0, the population doubled each time, until `target` or the budget (IPOP; Auger &
    Hansen 2005).

    A run also ends when σ √λmax ≤ `step_tolerance` · sigma, or without progress, see `cma`. Small populations descend
    quickly, large ones see past local minima: of 50 runs with populations of 400 on Rastrigin's function in ten
    dimensions 48 took at most 32,000 evaluations to 1e-8, and two went on to a restart, with 96,000. The result is the
    best of all runs; `steps`, `evaluations` and the trace are those of all.
    """
    name = "minimize_with_restarts"
    restarts, evaluations = whole(restarts, f"{name}: restarts", least=0), whole(evaluations, f"{name}: evaluations")
    number(sigma, f"{name}: sigma", "(0, ∞)")
    number(step_tolerance, f"{name}: step_tolerance", "[0, ∞)")
    wanted = whole(population, f"{name}: population", least=0)
    size = wanted or default_population(sum(jnp.size(leaf) for leaf in jax.tree.leaves(x0)))
    runs: list[Result] = []
    for i in range(restarts + 1):
        left = evaluations - sum(run.evaluations for run in runs)
        steps = left // (size * 2**i)
        if steps < 1:
            break
        runs.append(
            minimize(
                _method(sigma, size * 2**i),
                f,
                x0,
                steps=steps,
                step_tolerance=step_tolerance * sigma,
                target=target,
                key=jax.random.fold_in(key, i),
            )
        )
        if runs[-1].reason == "value":
            break
    if not runs:
        raise ValueError(f"minimize_with_restarts: {evaluations} evaluations are less than one generation of {size}")
    best = min(runs, key=lambda run: run.value)
    before = np.cumsum([0, *(run.evaluations for run in runs)])
    ways = [run.trace._replace(evaluations=run.trace.evaluations + b) for run, b in zip(runs, before, strict=False)]
    trace = Trace(*(np.concatenate(parts) for parts in zip(*ways, strict=True)))
    reason = "value" if best.reason == "value" else runs[-1].reason
    return best._replace(
        trace=trace,
        reason=reason,
        steps=sum(run.steps for run in runs),
        evaluations=sum(run.evaluations for run in runs),
    )
