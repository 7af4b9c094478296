"""Universal approximation: networks of one hidden layer and growing width on a continuous function (lecture 8.7)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from dlcore.precision import matmul
from dlcore.types import Key


def bumps(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """A continuous function on [−1, 1] with a kink, a slope and two frequencies."""
    return jnp.abs(x) - 0.5 + 0.5 * jnp.sin(3 * jnp.pi * x) * jnp.exp(-2 * (x - 0.3) ** 2)


class Approximations(NamedTuple):
    """Of each width, the best of the random starts."""

    widths: tuple[int, ...]
    rms: Float[Array, " widths"]
    """Root mean square error on the grid."""
    largest: Float[Array, " widths"]
    """Largest absolute error on the grid: the norm of the theorem."""
    values: Float[Array, "widths points"]


def best_start(errors: Float[np.ndarray, "starts widths"]) -> Int[np.ndarray, " widths"]:
    """The start with the least error, of each width; one that is not finite is the best only where all are."""
    return np.where(np.isfinite(errors), errors, np.inf).argmin(0)


def approximate(
    key: Key,
    function: Callable[[Array], Array],
    widths: Sequence[int],
    *,
    points: int = 256,
    starts: int = 4,
    steps: int = 3000,
    learning_rate: float = 1e-2,
) -> Approximations:
    """Fit Σ_j v_j tanh(w_j x + b_j) + c to `function` on a grid over [−1, 1], all widths and starts at once.

    A network of width m is one of the greatest width whose other units are switched off. Adam with a cosine schedule,
    whole grid per step. Sums of such units come as close as one likes to any continuous function (Cybenko 1989).
    A start that ends with errors that are not finite is never the best. Raises `ValueError` for widths below 1, or a
    function that does not work element by element.
    """
    if min(widths, default=0) < 1:
        raise ValueError(f"widths must be at least 1, got {tuple(widths)}")
    x = jnp.linspace(-1.0, 1.0, points)
    target, most = function(x), max(widths)
    if target.shape != x.shape:
        raise ValueError(f"approximate: function gives shape {target.shape} for points of shape {x.shape}")
    tx = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def start(key: Key, on: Array) -> tuple[Array, ...]:
        w = 5 * jax.random.normal(jax.random.fold_in(key, 0), (most,))
        # Units bend at centres spread over the interval.
        b = -w * jax.random.uniform(jax.random.fold_in(key, 1), (most,), minval=-1.0, maxval=1.0)
        v = jax.random.normal(jax.random.fold_in(key, 2), (most,)) / jnp.sqrt(on.sum())
        return w, b, v, jnp.float32(0)

    def values(params: tuple[Array, ...], on: Array) -> Array:
        w, b, v, c = params
        return matmul(jnp.tanh(jnp.outer(x, w) + b), v * on) + c

    def fit(key: Key, on: Array) -> Array:
        def step(carry: tuple, _: None) -> tuple[tuple, None]:
            params, state = carry
            grads = jax.grad(lambda p: jnp.mean(jnp.square(values(p, on) - target)))(params)
            updates, state = tx.update(grads, state)
            return (optax.apply_updates(params, updates), state), None

        params = start(key, on)
        return values(jax.lax.scan(step, (params, tx.init(params)), length=steps)[0][0], on)

    on = jnp.arange(most) < jnp.array(widths)[:, None]
    keys = jax.random.split(key, starts)
    every = jax.vmap(fit, (None, 0))
    found = jax.jit(jax.vmap(every, (0, None)))(keys, on.astype(jnp.float32))
    rms = jnp.sqrt(jnp.square(found - target).mean(-1))
    best = best_start(np.asarray(rms))
    chosen = found[best, np.arange(len(widths))]
    return Approximations(tuple(widths), rms[best, np.arange(len(widths))], jnp.abs(chosen - target).max(-1), chosen)
