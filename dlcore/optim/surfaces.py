"""Named surfaces to minimise, with what is known of their minima (lecture 4.1–4.2)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.precision import matmul


class Surface(NamedTuple):
    """A function of x [n], its global minima, and the box it is usually drawn in."""

    name: str
    f: Callable[[Float[Array, " n"]], Float[Array, ""]]
    minima: np.ndarray
    """Where it is least [m, n]; none when it is unbounded below."""
    value: float
    """The least value."""
    convex: bool
    start: np.ndarray
    """Where searches usually start [n]."""
    low: np.ndarray
    high: np.ndarray
    local: np.ndarray
    """Local minima that are not global [m, n]."""


def _surface(
    name: str,
    f: Callable[[Array], Array],
    minima: Sequence[Sequence[float]] | np.ndarray,
    *,
    start: Sequence[float] | np.ndarray,
    side: float,
    convex: bool = False,
    value: float = 0.0,
    local: Sequence[Sequence[float]] = (),
) -> Surface:
    start, size = np.asarray(start, float), len(start)
    box = np.full(size, side)
    places = (np.asarray(points, float).reshape(-1, size) for points in (minima, local))
    minima, local = places

    def at_one_point(x: Array) -> Array:
        if jnp.shape(x) != (size,):
            raise ValueError(f"{name}: one point has shape {(size,)}, got {jnp.shape(x)}; jax.vmap takes many")
        return f(x)

    return Surface(name, at_one_point, minima, value, convex, start, -box, box, local)


def sphere(n: int = 2) -> Surface:
    """Σ x_i²."""
    return _surface("sphere", lambda x: jnp.sum(x * x), [[0.0] * n], start=[3.0] * n, side=5.0, convex=True)


def quadratic(spectrum: Sequence[float], *, seed: int = 0) -> Surface:
    """½ xᵀQ diag(λ) Qᵀx with the given eigenvalues λ of its Hessian and a random rotation Q.

    Raises `ValueError` for no eigenvalues. Convex, with its minimum at 0, when no λ is negative.
    """
    if not len(spectrum):
        raise ValueError("quadratic: spectrum must hold at least one eigenvalue")
    values, n = np.asarray(spectrum, float), len(spectrum)
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    H = Q * values @ Q.T
    minima = [[0.0] * n] if values.min() > 0 else np.empty((0, n))
    name = "quadratic, λ = " + ", ".join(f"{v:g}" for v in spectrum) if n <= 3 else "quadratic"

    def f(x: Array) -> Array:
        return 0.5 * matmul(matmul(x, jnp.asarray(H, x.dtype)), x)

    value = 0.0 if values.min() >= 0 else -np.inf
    start = Q.sum(1) * 2
    return _surface(name, f, minima, start=start, side=3.0, convex=bool(values.min() >= 0), value=value)


def rosenbrock(n: int = 2) -> Surface:
    """Σ 100 (x_{i+1} − x_i²)² + (1 − x_i)²: a curved valley, its minimum at (1, …, 1) (Rosenbrock 1960)."""

    def f(x: Array) -> Array:
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    return _surface("Rosenbrock", f, [[1.0] * n], start=([-1.2, 1.0] * n)[:n], side=2.0)


def rosenbrock_residuals(x: Float[Array, " n"]) -> Float[Array, " m"]:
    """r with ½‖r‖² = Rosenbrock's function, for methods of least squares."""
    return jnp.sqrt(2.0) * jnp.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])


def rastrigin(n: int = 2) -> Surface:
    """10 n + Σ x_i² − 10 cos 2πx_i: a local minimum near every integer point, the global one at 0 (Rastrigin 1974)."""

    def f(x: Array) -> Array:
        return 10.0 * x.size + jnp.sum(x * x - 10 * jnp.cos(2 * jnp.pi * x))

    local = [[sign * 0.99495864] + [0.0] * (n - 1) for sign in (-1, 1)]
    return _surface("Rastrigin", f, [[0.0] * n], start=([3.3, -2.4] * n)[:n], side=5.12, local=local)


def himmelblau() -> Surface:
    """(x² + y − 11)² + (x + y² − 7)²: four global minima (Himmelblau 1972)."""
    minima = [[3.0, 2.0], [-2.8051180870, 3.1313125183], [-3.7793102534, -3.2831859913], [3.5844283403, -1.8481265270]]

    def f(x: Array) -> Array:
        return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2

    return _surface("Himmelblau", f, minima, start=[-0.5, -1.0], side=5.0)


def beale() -> Surface:
    """Σ_k (c_k − x + x yᵏ)², k = 1, 2, 3: flat valleys, its minimum at (3, ½) (Beale 1958)."""

    def f(x: Array) -> Array:
        power = x[1] ** jnp.arange(1, 4)
        return jnp.sum((jnp.asarray([1.5, 2.25, 2.625], x.dtype) - x[0] + x[0] * power) ** 2)

    return _surface("Beale", f, [[3.0, 0.5]], start=[0.5, 1.5], side=4.5)


def booth() -> Surface:
    """(x + 2y − 7)² + (2x + y − 5)²: convex, its minimum at (1, 3)."""

    def f(x: Array) -> Array:
        return (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2

    return _surface("Booth", f, [[1.0, 3.0]], start=[-4.0, -2.0], side=5.0, convex=True)


def ackley(n: int = 2) -> Surface:
    """20 (1 − exp(−0.2 √(mean x²))) + e − exp(mean cos 2πx): a funnel of ripples, its minimum at 0 (Ackley 1987)."""

    def f(x: Array) -> Array:
        square = jnp.mean(x * x)
        # The root has no derivative at 0, where the minimum is.
        radius = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
        return 20 * (1 - jnp.exp(-0.2 * radius)) + jnp.e - jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * x)))

    return _surface("Ackley", f, [[0.0] * n], start=([3.3, -2.4] * n)[:n], side=5.0)


def double_well() -> Surface:
    """(x² − 1)² + 0.3 x, of one variable: a global minimum on the left and a local one on the right (lecture 4.1)."""
    roots = np.sort(np.roots([4, 0, -4, 0.3]).real)
    value = float((roots[0] ** 2 - 1) ** 2 + 0.3 * roots[0])

    def f(x: Array) -> Array:
        return (x[0] ** 2 - 1) ** 2 + 0.3 * x[0]

    return _surface("double well", f, [[roots[0]]], start=[1.5], side=1.8, value=value, local=[[roots[2]]])


def saddle() -> Surface:
    """x² − y² + ¼ y⁴: a saddle at 0 between two minima at (0, ±√2), of value −1 (lecture 5.8)."""

    def f(x: Array) -> Array:
        return x[0] ** 2 - x[1] ** 2 + 0.25 * x[1] ** 4

    root = 2**0.5
    return _surface("saddle", f, [[0.0, -root], [0.0, root]], start=[1.5, 0.01], side=2.5, value=-1.0)


def named() -> tuple[Surface, ...]:
    """One of each, in two dimensions where there is a choice."""
    return (
        sphere(),
        quadratic((1.0, 10.0)),
        booth(),
        rosenbrock(),
        beale(),
        himmelblau(),
        saddle(),
        rastrigin(),
        ackley(),
        double_well(),
    )
