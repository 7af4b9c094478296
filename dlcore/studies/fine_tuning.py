"""One short training on few examples, as a function that `vmap` takes over starts and seeds (lecture 21.4)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Shaped

from dlcore.types import Key, Params


class Tuned(NamedTuple):
    """What a training has come to."""

    params: Params
    """Those with the least error, or the last."""
    errors: Float[Array, " looks"]
    """The error of the start, and after every part; 0 where none is asked for."""


def fine_tune(
    loss: Callable[[Params, Array, Array], Float[Array, ""]],
    error: Callable[[Params], Float[Array, ""]] | None,
    start: Params,
    inputs: Shaped[Array, "m ..."],
    targets: Shaped[Array, "m ..."],
    tx: optax.GradientTransformation,
    *,
    steps: int,
    every: int,
    batch_size: int,
    key: Key,
) -> Tuned:
    """Train from `start` by `loss(params, inputs [b, ...], targets [b, ...])`; keep what has the least `error(params)`.

    The error, on a validation split, is asked for after each `every` steps, and of the start; of equal ones the first
    counts. Without one (None) the last params are kept. Batches are drawn
    with replacement from the m examples, and depend on the key alone: trainings from several starts see the same ones.
    Steps run in a loop inside one program, where a convolution is slow on CPU. Raises `ValueError` unless `every`
    divides `steps`.
    """
    if every < 1 or steps % every:
        raise ValueError(f"fine_tune: every must be positive and divide steps, got {every} and {steps}")

    look = (lambda params: jnp.float32(0)) if error is None else error

    def step(carry: tuple[Params, optax.OptState], key: Key) -> tuple[tuple[Params, optax.OptState], None]:
        params, memory = carry
        rows = jax.random.randint(key, (batch_size,), 0, len(inputs))
        gradient = jax.grad(loss)(params, inputs[rows], targets[rows])
        updates, memory = tx.update(gradient, memory, params)
        return (optax.apply_updates(params, updates), memory), None

    def part(carry: tuple, keys: Key) -> tuple[tuple, Float[Array, ""]]:
        training, best, least = carry
        training, _ = jax.lax.scan(step, training, keys)
        now = look(training[0])
        better = now < least if error is not None else True
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), training[0], best)
        return (training, best, jnp.minimum(now, least)), now

    first = look(start)
    keys = jax.random.split(key, (steps // every, every))
    (_, best, _), errors = jax.lax.scan(part, ((start, tx.init(start)), start, first), keys)
    return Tuned(best, jnp.concatenate([first[None], errors]))
