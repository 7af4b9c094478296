"""Gradient descent, with momentum, and by any gradient transformation (lecture 5.1–5.5, 6.5–6.6)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dlcore.optim._extra_arguments import transform
from dlcore.optim._line_search import Search
from dlcore.optim._minimize import Function, Iterate, Method, state
from dlcore.types import Key

Rate = float | Float[Array, ""]


def at(f: Function, x: Array, before: Iterate | None, spent: Any, extra: Any = ()) -> Iterate:
    """The iterate at x with value and gradient there; `memory` is (gradient, extra)."""
    value, gradient = jax.value_and_grad(f)(x)
    size = jnp.inf if before is None else jnp.linalg.norm(x - before.x)
    count = spent + 1 + (0 if before is None else before.evaluations)
    norm = jnp.linalg.norm(gradient)
    return state(x, value, gradient_norm=norm, step_size=size, evaluations=count, memory=(gradient, extra))


def gradient_descent(rate: Rate = 1.0, *, search: Search | None = None) -> Method:
    """θ ← θ − ε g; with a line search θ ← θ − t g and `rate` unused (lecture 5.3).

    On a quadratic with curvatures in (0, λmax] it converges exactly for 0 < ε < 2/λmax.
    """

    def init(f: Function, x0: Array, key: Key | None) -> Iterate:
        return at(f, x0, None, 0)

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        gradient = now.memory[0]
        if search is None:
            return at(f, now.x - rate * gradient, now, 0)
        found = search(f, now.x, now.value, gradient, -gradient)
        return at(f, now.x - found.step * gradient, now, found.evaluations)

    return Method(init, step)


def momentum(rate: Rate, alpha: Rate = 0.9) -> Method:
    """v ← α v − ε ∇f(θ), θ ← θ + v (Polyak 1964; lecture 6.5)."""
    return _with_velocity(rate, alpha, lambda f, now, velocity: (now.memory[0], 0))


def nesterov(rate: Rate, alpha: Rate = 0.9) -> Method:
    """v ← α v − ε ∇f(θ + α v), θ ← θ + v (Nesterov 1983 in the form of Sutskever et al. 2013; lecture 6.6).

    Two evaluations a step, the second for the value at θ.
    """
    return _with_velocity(rate, alpha, lambda f, now, velocity: (jax.grad(f)(now.x + alpha * velocity), 1))


def _with_velocity(rate: Rate, alpha: Rate, gradient_of: Callable[..., tuple[Array, int]]) -> Method:
    def init(f: Function, x0: Array, key: Key | None) -> Iterate:
        return at(f, x0, None, 0, jnp.zeros_like(x0))

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        velocity = now.memory[1]
        gradient, spent = gradient_of(f, now, velocity)
        velocity = alpha * velocity - rate * gradient
        return at(f, now.x + velocity, now, spent, velocity)

    return Method(init, step)


def transformed(tx: optax.GradientTransformation) -> Method:
    """θ ← θ + tx(g): descent by any gradient transformation, such as those of `dlcore.optim.transforms` or optax."""

    def init(f: Function, x0: Array, key: Key | None) -> Iterate:
        return at(f, x0, None, 0, tx.init(x0))

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        gradient, inner = now.memory
        updates, inner = transform(tx, gradient, inner, now.x, value=now.value, value_fn=f, grad_fn=jax.grad(f))
        return at(f, now.x + updates, now, 0, inner)

    return Method(init, step)
