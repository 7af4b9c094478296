"""The optimisers of the lecture written out as optax gradient transformations (lecture 6.3–7).

Training uses optax's own; these show what they do, and give the same trajectories. Each maps a gradient g to the update
that is added to θ. A rate is a number or a schedule of the step k = 0, 1, … Numbers may be traced, so that one program
trains with many of them. Running quantities are kept in at least single precision, and updates have the dtypes of the
gradients. Raises `ValueError` for gradients of other shapes than the params had at the start.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dlcore.optim.schedules import Schedule
from dlcore.setting import Number, known, number
from dlcore.tree import path_of

Rate = Number | Schedule


class Memory(NamedTuple):
    """The count of steps, and running quantities with the structure of the params."""

    step: Any
    first: Any = ()
    second: Any = ()


def _at(rate: Rate, step: Any) -> Any:
    return rate(step) if callable(rate) else rate


def check_rates(name: str, rate: Rate, delta: Number = 0.0, **decays: Number) -> None:
    """Raises `ValueError` for a rate or δ that is negative, a decay outside [0, 1], and what is no number."""
    for setting, value in {"delta": delta, **({} if callable(rate) else {"rate": rate})}.items():
        number(value, f"{name}: {setting}", "[0, ∞)")
    for setting, value in decays.items():
        number(value, f"{name}: {setting}", "[0, 1]")


def _zeros(params: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.promote_types(jnp.result_type(x), jnp.float32)), params)


def _checked(grads: Any, *others: Any) -> Any:
    """The gradients, whose leaves must have the shapes of those of the other trees."""

    def leaf(path: Any, g: Any, *rest: Any) -> Any:
        for other in rest:
            if jnp.shape(g) != jnp.shape(other):
                name = path_of(path)
                raise ValueError(
                    f"update: the gradient at {name!r} has shape {jnp.shape(g)}, and the params or the memory "
                    f"{jnp.shape(other)}; start again with tx.init(params)"
                )
        return g

    return jax.tree_util.tree_map_with_path(leaf, grads, *(other for other in others if other is not None))


def _like(updates: Any, grads: Any) -> Any:
    return jax.tree.map(lambda u, g: jnp.asarray(u, jnp.result_type(g)), updates, grads)


def _start(*, first: bool = False, second: bool = False) -> Callable[[Any], Memory]:
    def init(params: Any) -> Memory:
        return Memory(jnp.zeros((), jnp.int32), _zeros(params) if first else (), _zeros(params) if second else ())

    return init


def sgd(rate: Rate) -> optax.GradientTransformation:
    """θ ← θ − ε_k g (Robbins & Monro 1951)."""
    check_rates("sgd", rate)

    def update(grads: Any, memory: Memory, params: Any = None) -> tuple[Any, Memory]:
        rate_now = _at(rate, memory.step)
        return _like(jax.tree.map(lambda g: -rate_now * g, _checked(grads, params)), grads), Memory(memory.step + 1)

    return optax.GradientTransformation(_start(), update)


def momentum(rate: Rate, alpha: Number = 0.9) -> optax.GradientTransformation:
    """v ← α v − ε_k g, θ ← θ + v (Polyak 1964; lecture 6.5)."""
    check_rates("momentum", rate, alpha=alpha)

    def update(grads: Any, memory: Memory, params: Any = None) -> tuple[Any, Memory]:
        rate_now = _at(rate, memory.step)
        velocity = jax.tree.map(lambda v, g: alpha * v - rate_now * g, memory.first, _checked(grads, memory.first))
        return _like(velocity, grads), Memory(memory.step + 1, velocity)

    return optax.GradientTransformation(_start(first=True), update)


def nesterov(rate: Rate, alpha: Number = 0.9) -> optax.GradientTransformation:
    """v ← α v − ε_k g, θ̃ ← θ̃ + α v − ε_k g, with g taken at θ̃ (lecture 6.6).

    The lecture's form takes the gradient at θ̃ = θ + α v, ahead of θ. A transformation sees the gradient where the
    params are, so they are the θ̃ themselves: the same trajectory seen α v further on (Sutskever et al. 2013).
    """
    check_rates("nesterov", rate, alpha=alpha)

    def update(grads: Any, memory: Memory, params: Any = None) -> tuple[Any, Memory]:
        rate_now = _at(rate, memory.step)
        velocity = jax.tree.map(lambda v, g: alpha * v - rate_now * g, memory.first, _checked(grads, memory.first))
        updates = jax.tree.map(lambda v, g: alpha * v - rate_now * g, velocity, grads)
        return _like(updates, grads), Memory(memory.step + 1, velocity)

    return optax.GradientTransformation(_start(first=True), update)


def adagrad(rate: Rate, delta: Number = 1e-7) -> optax.GradientTransformation:
    """r ← r + g², θ ← θ − ε_k g/(δ + √r), δ outside the root (Duchi et al. 2011; Goodfellow et al. 2016, alg. 8.4).

    optax adds δ inside the root and starts r at 0.1 instead.
    """
    check_rates("adagrad", rate, delta)

    def update(grads: Any, memory: Memory, params: Any = None) -> tuple[Any, Memory]:
        rate_now = _at(rate, memory.step)
        total = jax.tree.map(lambda r, g: r + _square(r, g), memory.second, _checked(grads, memory.second))
        updates = jax.tree.map(lambda g, r: -rate_now * _over(g, delta + jnp.sqrt(r)), grads, total)
        return _like(updates, grads), Memory(memory.step + 1, second=total)

    return optax.GradientTransformation(_start(second=True), update)


def rmsprop(rate: Rate, decay: Number = 0.9, delta: Number = 1e-8) -> optax.GradientTransformation:
    """r ← ρ r + (1 − ρ) g², θ ← θ − ε_k g/√(δ + r) (Hinton 2012; Goodfellow et al. 2016, algorithm 8.5)."""
    check_rates("rmsprop", rate, delta, decay=decay)

    def update(grads: Any, memory: Memory, params: Any = None) -> tuple[Any, Memory]:
        rate_now = _at(rate, memory.step)
        grads = _checked(grads, memory.second)
        mean = jax.tree.map(lambda r, g: decay * r + (1 - decay) * _square(r, g), memory.second, grads)
        updates = jax.tree.map(lambda g, r: -rate_now * _over(g, jnp.sqrt(delta + r)), grads, mean)
        return _like(updates, grads), Memory(memory.step + 1, second=mean)

    return optax.GradientTransformation(_start(second=True), update)


def adam(rate: Rate, b1: Number = 0.9, b2: Number = 0.999, delta: Number = 1e-8) -> optax.GradientTransformation:
    """s ← β₁ s + (1 − β₁) g, r ← β₂ r + (1 − β₂) g², ŝ = s/(1 − β₁ᵏ), r̂ = r/(1 − β₂ᵏ), θ ← θ − ε ŝ/(√r̂ + δ).

    k counts from 1 (Kingma & Ba 2015, algorithm 1).
    """
    return adamw(rate, b1, b2, delta, weight_decay=0.0)


def adamw(
    rate: Rate, b1: Number = 0.9, b2: Number = 0.999, delta: Number = 1e-8, *, weight_decay: Number = 1e-4
) -> optax.GradientTransformation:
    """Adam with the decay of weights beside its step, θ ← θ − ε_k (ŝ/(√r̂ + δ) + λ θ) (Loshchilov & Hutter 2019).

    Every leaf decays; `dlcore.optim.make_optimizer` spares biases. Raises `ValueError` for a decay without params.
    """
    check_rates("adam", rate, delta, b1=b1, b2=b2)
    number(weight_decay, "adamw: weight_decay", "[0, ∞)")

    def update(grads: Any, memory: Memory, params: Any = None) -> tuple[Any, Memory]:
        decays = known(weight_decay) != 0
        if decays and params is None:
            raise ValueError("adamw: weight decay needs the params; call update(grads, memory, params)")
        k, rate_now = memory.step + 1, _at(rate, memory.step)
        grads = _checked(grads, memory.first, params)
        first = jax.tree.map(lambda s, g: b1 * s + (1 - b1) * g, memory.first, grads)
        second = jax.tree.map(lambda r, g: b2 * r + (1 - b2) * _square(r, g), memory.second, grads)
        steps = jax.tree.map(lambda s, r: _over(s / (1 - b1**k), jnp.sqrt(r / (1 - b2**k)) + delta), first, second)
        if decays:
            steps = jax.tree.map(lambda step, theta: step + weight_decay * theta, steps, params)
        return _like(jax.tree.map(lambda step: -rate_now * step, steps), grads), Memory(k, first, second)

    return optax.GradientTransformation(_start(first=True, second=True), update)


def _square(like: Any, g: Any) -> Any:
    """g² in the dtype of the memory: half precision would overflow."""
    return jnp.square(jnp.asarray(g, like.dtype))


def _over(a: Any, b: Any) -> Any:
    """a/b, and 0 where b is 0: a coordinate whose gradient has always been 0 stays, even with δ = 0."""
    return jnp.where(b == 0, 0.0, a / jnp.where(b == 0, 1.0, b))
