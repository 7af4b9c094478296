"""Stochastic gradient descent as a method of `minimize`, stopping by averages that noise misleads less (lecture 6.3).

The objective is known by estimates alone: f(x, key) is one from a random part of the data, with E[f(x, key)] = f(x).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from dlcore.optim._minimize import Function, Iterate, Method, state
from dlcore.setting import Number, number
from dlcore.types import Key


class Averages(NamedTuple):
    """The last estimate of the gradient, running sums over the way, and the state of the transformation."""

    gradient: Array
    values: Array
    gradients: Array
    weight: Array
    """What the weights in both sums add up to, 1 − ρᵏ after k estimates."""
    inner: Any


def stochastic_descent(tx: optax.GradientTransformation, *, decay: Number = 0.9) -> Method:
    """θ ← θ + tx(ĝ), ĝ = ∇f(θ, key) with a new key every step; the rate and its schedule are the transformation's.

    Value and gradient norm, which the trace shows and the criteria to stop look at, are those of averages over the
    way, m ← ρ m + (1 − ρ) ĝ divided by 1 − ρᵏ with ρ = `decay`. Their noise is √((1 − ρ)/(1 + ρ)) of a single
    estimate's, 0.23 for ρ = 0.9: a smaller `gradient_tolerance` asks for a larger ρ or larger batches. With rates that
    meet the conditions of `robbins_monro` it converges (Robbins & Monro 1951); with a constant rate ε it ends in a
    neighbourhood of the minimum whose width grows as √ε. Raises `ValueError` unless 0 ≤ ρ < 1.
    """
    number(decay, "stochastic_descent: decay", "[0, 1)")

    def at(f: Function, x: Array, key: Key | None, sums: Averages, inner: Any) -> tuple[Array, Array, Averages]:
        value, gradient = jax.value_and_grad(f)(x, key)
        values, gradients, weight = (
            decay * old + (1 - decay) * new
            for old, new in ((sums.values, value), (sums.gradients, gradient), (sums.weight, 1.0))
        )
        averages = Averages(gradient, values, gradients, weight, inner)
        return values / weight, jnp.linalg.norm(gradients / weight), averages

    def init(f: Function, x0: Array, key: Key | None) -> Iterate:
        zero = jnp.zeros_like(x0)
        none = Averages(zero, zero.sum(), zero, zero.sum(), ())
        value, norm, memory = at(f, x0, key, none, tx.init(x0))
        return state(x0, value, gradient_norm=norm, evaluations=1, memory=memory)

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        updates, inner = tx.update(now.memory.gradient, now.memory.inner, now.x)
        x = now.x + updates
        value, norm, memory = at(f, x, key, now.memory, inner)
        size, count = jnp.linalg.norm(updates), now.evaluations + 1
        return state(x, value, gradient_norm=norm, step_size=size, evaluations=count, memory=memory)

    return Method(init, step, stochastic=True)
