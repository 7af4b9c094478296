"""Gradients by central differences, and what they cost beside backpropagation (lecture 9.1, 9.5)."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from dlcore.backprop._chain import Loss, loss_and_gradient, mlp
from dlcore.backprop._loss import mse_backward, mse_forward
from dlcore.precision import highest
from dlcore.types import Params


@highest
def central_differences(function: Callable[[Any], Float[Array, ""]], params: Any, step: float | None = None) -> Any:
    """(f(θ + h e_i) − f(θ − h e_i))/2h for each of P entries of a tree, shaped like it: 2P evaluations, error O(h²).

    h is `step`, or ε^{1/3}·max(1, |θ_i|), which balances the truncation with the rounding of the dtype's ε.
    Raises `ValueError` unless the step is positive.
    """
    if step is not None and not step > 0:
        raise ValueError(f"step must be positive, got {step}")
    flat, restore = ravel_pytree(params)
    cube_root = float(jnp.finfo(flat.dtype).eps) ** (1 / 3)

    def entry(i: Array) -> Array:
        h = cube_root * jnp.maximum(1, jnp.abs(flat[i])) if step is None else jnp.asarray(step, flat.dtype)
        up, down = flat.at[i].add(h), flat.at[i].add(-h)
        # What was added differs from h by rounding; what divides must not.
        return (function(restore(up)) - function(restore(down))) / (up[i] - down[i])

    return restore(jax.lax.map(entry, jnp.arange(flat.size)))


class Cost(NamedTuple):
    """A gradient of a network by both ways: evaluations of the loss, and seconds on this machine."""

    parameters: int
    differences_evaluations: int
    """2 per parameter."""
    backprop_evaluations: int
    """1 forward and 1 backward, which costs about as much as 2 forward."""
    loss_seconds: float
    differences_seconds: float
    backprop_seconds: float


def cost_table(sizes: Sequence[int], *, batch_size: int = 32, repeats: int = 3, seed: int = 0) -> list[Cost]:
    """Costs of the gradient of an MLP n → n → 1 with squared error, for every width n in `sizes`.

    All are compiled beforehand and timed as the best of `repeats`. Central differences grow with the square of the
    parameters, backpropagation with their number. Raises `ValueError` for sizes or repeats below 1.
    """
    if not sizes or min(sizes) < 1 or repeats < 1:
        raise ValueError(f"sizes and repeats must be at least 1, got sizes={tuple(sizes)}, repeats={repeats}")
    return [_cost(size, batch_size, repeats, np.random.default_rng(seed)) for size in sizes]


def _cost(size: int, batch_size: int, repeats: int, rng: np.random.Generator) -> Cost:
    def normal(*shape: int) -> Array:
        return jnp.asarray(rng.standard_normal(shape) / np.sqrt(size), jnp.float32)

    params = {
        "dense_0": {"kernel": normal(size, size), "bias": normal(size)},
        "dense_1": {"kernel": normal(size, 1), "bias": normal(1)},
    }
    x, y = normal(batch_size, size), normal(batch_size, 1)
    network, loss = mlp(1, "tanh"), Loss(mse_forward, mse_backward)

    def value(params: Params) -> Array:
        return loss.forward(network.forward(params, x)[0], y)[0]

    ways = (
        value,
        lambda params: central_differences(value, params),
        lambda params: loss_and_gradient(network, loss, params, x, y),
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Cost(count, 2 * count, 2, *(_seconds(jax.jit(way), params, repeats) for way in ways))


def _seconds(function: Callable[[Any], Any], argument: Any, repeats: int) -> float:
    """The best time of a call, compilation apart."""
    jax.block_until_ready(function(argument))
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function(argument))
        times.append(time.perf_counter() - began)
    return min(times)
