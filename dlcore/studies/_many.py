"""Many small trainings at once, for studies of optimisers: one program, one start, the same batches (lecture 5–7)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Shaped

from dlcore.optim import transform
from dlcore.precision import matmul
from dlcore.types import Key, Params

Losses = Callable[[Params, Array, Array], Array]
"""`(params, inputs [b, ...], targets [b, ...]) -> loss of each example [b]`, without convolutions, see `train_many`."""


def train_many(
    losses: Losses,
    start: Params,
    inputs: Shaped[Array, "n ..."],
    targets: Shaped[Array, "n ..."],
    make: Callable[..., optax.GradientTransformation],
    settings: Sequence[tuple[float, ...]],
    sizes: Sequence[int],
    *,
    steps: int,
    every: int = 1,
    key: Key,
) -> Float[Array, "settings measured"]:
    """The mean loss over all n examples after each `every` steps of training, for every setting.

    Training i descends by `make(*settings[i])`, whose arguments are traced, with batches of `sizes[i]` examples: the
    first of `max(sizes)` that are drawn with replacement for all trainings alike. A training that diverges has losses
    that are infinite or NaN from there on, and leaves the others alone. Steps run in a loop inside one program, where
    a convolution is slow on CPU: meant for perceptrons. Raises `ValueError` for no settings, sizes that are not one per
    setting and at least 1, and steps that are no multiple of `every`.
    """
    if not settings or len(settings) != len(sizes) or min(sizes) < 1:
        raise ValueError(f"train_many: one batch size of at least 1 per setting, got {len(settings)} and {sizes}")
    if not 1 <= every <= steps or steps % every:
        raise ValueError(f"train_many: steps must be a positive multiple of every, got {steps} and {every}")
    largest = max(sizes)

    def train(data: tuple[Array, Array], start: Params, keys: Key, size: Array, setting: tuple[Array, ...]) -> Array:
        tx, weight = make(*setting), (jnp.arange(largest) < size) / size

        def step(carry: tuple[Params, Any], key: Key) -> tuple[tuple[Params, Any], None]:
            params, memory = carry
            rows = jax.random.randint(key, (largest,), 0, len(data[0]))
            loss = lambda p: matmul(losses(p, *(array[rows] for array in data)), weight)  # noqa: E731
            value, grads = jax.value_and_grad(loss)(params)
            told = {"value": value, "value_fn": loss, "grad_fn": jax.grad(loss)}
            updates, memory = transform(tx, grads, memory, params, **told)
            return (optax.apply_updates(params, updates), memory), None

        def stretch(carry: tuple[Params, Any], keys: Key) -> tuple[tuple[Params, Any], Array]:
            carry, _ = jax.lax.scan(step, carry, keys)
            return carry, losses(carry[0], *data).mean()

        return jax.lax.scan(stretch, (start, tx.init(start)), keys)[1]

    keys = jax.random.split(key, (steps // every, every))
    columns = tuple(jnp.asarray(column, jnp.float32) for column in zip(*settings, strict=True))
    every_one = jax.jit(jax.vmap(train, (None, None, None, 0, 0)))
    return every_one((inputs, targets), start, keys, jnp.asarray(sizes, jnp.float32), columns)
