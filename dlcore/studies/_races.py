"""Methods of optimisation against each other on surfaces in the plane (lecture 4–5)."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dlcore.optim import (
    Method,
    Run,
    Trace,
    cma,
    damped_newton,
    gradient_descent,
    momentum,
    nesterov,
    run,
    surfaces,
    transformed,
    transforms,
)

Racers = Mapping[str, tuple[Callable[[Any], Method], float]]
"""name: (method from the surface's learning rate, its share of the steps)."""
Tracks = Mapping[str, tuple[surfaces.Surface, float]]
"""name: (surface, learning rate)."""

RACERS: Racers = {
    "gradient descent": (gradient_descent, 1.0),
    "momentum, α = 0.9": (momentum, 1.0),
    "Nesterov, α = 0.9": (nesterov, 1.0),
    "Adam, ε = 0.1": (lambda rate: transformed(transforms.adam(0.1)), 1.0),
    "damped Newton": (lambda rate: damped_newton(), 0.1),
    "CMA-ES": (lambda rate: cma(0.3), 0.3),
}
"""First-order methods, and two whose steps are dear."""

TRACKS: Tracks = {
    "ill-conditioned bowl": (surfaces.quadratic((1.0, 20.0), seed=3), 0.02),
    "Rosenbrock": (surfaces.rosenbrock()._replace(low=np.array([-1.7, -0.7]), high=np.array([1.7, 1.8])), 1e-3),
    "Himmelblau": (surfaces.himmelblau(), 5e-3),
    "saddle": (surfaces.saddle(), 0.05),
}
"""A surface for each thing that makes descent hard."""


CONTESTANTS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "SGD": transforms.sgd,
    "momentum": transforms.momentum,
    "Nesterov": transforms.nesterov,
    "AdaGrad": transforms.adagrad,
    "RMSProp": transforms.rmsprop,
    "Adam": transforms.adam,
}
"""name: transformation from a learning rate, for networks."""


def race(steps: int, racers: Racers = RACERS, tracks: Tracks = TRACKS) -> dict[str, dict[str, Trace]]:
    """The ways of every method on every surface from its start, `found[surface][method]`, each to its last step.

    A method takes its share of `steps`, at least 10, and stops where the gradient or its step is small.
    """
    functions = [surface.f for surface, _ in tracks.values()]
    starts = jnp.asarray(np.stack([surface.start for surface, _ in tracks.values()]), jnp.float32)
    rates = jnp.asarray([rate for _, rate in tracks.values()])

    def one(make: Callable[[Any], Method], steps: int, i: Array, x0: Array, rate: Array) -> Run:
        def f(x: Array) -> Array:
            return jax.lax.switch(i, functions, x)

        return run(make(rate), f, x0, steps=steps, gradient_tolerance=1e-5, step_tolerance=1e-6, key=jax.random.key(1))

    found: dict[str, dict[str, Trace]] = {name: {} for name in tracks}
    for method, (make, share) in racers.items():
        on_all = jax.jit(jax.vmap(functools.partial(one, make, max(int(share * steps), 10))))
        runs = jax.device_get(on_all(jnp.arange(len(tracks)), starts, rates))
        for i, name in enumerate(tracks):
            found[name][method] = Trace(*(leaf[i][: int(runs.steps[i]) + 1] for leaf in runs.trace))
    return found


def descents(
    surface: surfaces.Surface, start: Float[np.ndarray, " d"], rates: Sequence[float], steps: int
) -> Float[np.ndarray, "rates points d"]:
    """The ways of gradient descent from one start with several learning rates, the start first."""
    x0 = jnp.asarray(start, jnp.float32)
    ways = jax.jit(jax.vmap(lambda rate: run(gradient_descent(rate), surface.f, x0, steps=steps).trace.points))
    return np.asarray(ways(jnp.asarray(rates)))


def heights(surface: surfaces.Surface, size: int = 160) -> Float[np.ndarray, "size size"]:
    """f on a grid over the surface's rectangle, the lowest row of y first."""
    axes = [np.linspace(a, b, size, dtype=np.float32) for a, b in zip(surface.low, surface.high, strict=True)]
    return np.asarray(jax.jit(jax.vmap(jax.vmap(surface.f)))(np.stack(np.meshgrid(*axes), -1)))
