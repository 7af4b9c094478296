"""Short trainings on few examples from several starts and for several seeds, all at once (lecture 21.4)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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


def compare_starts(
    starts: Callable[[Key], Mapping[str, Params]],
    loss: Callable[[Params, Array, Array], Float[Array, ""]],
    error: Callable[[Params, Any], Float[Array, ""]],
    validation: Any,
    test: Any,
    inputs: Shaped[Array, "seeds m ..."],
    targets: Shaped[Array, "seeds m ..."],
    tx: optax.GradientTransformation,
    *,
    steps: int,
    every: int,
    batch_size: int,
    key: Key,
) -> dict[str, dict[str, Float[Array, "seeds ..."]]]:
    """`fine_tune` from every start, by name, for every seed, in one program: a comparison in pairs.

    Of one seed all trainings have the same examples, batches and key, of which `starts(key)` makes params of one
    structure. `error(params, split)` chooses on `validation` (None: the last params are kept) and judges on `test`.
    Returns the `error` on the test split [seeds] and what was seen on the way, `validation` [seeds, looks].
    """

    def of_seed(key: Key, inputs: Array, targets: Array, validation: Any, test: Any) -> dict[str, Any]:
        chosen = None if validation is None else lambda params: error(params, validation)
        options = {"steps": steps, "every": every, "batch_size": batch_size, "key": jax.random.fold_in(key, 1)}
        named = starts(jax.random.fold_in(key, 0))
        together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *named.values())
        tuned = jax.vmap(lambda start: fine_tune(loss, chosen, start, inputs, targets, tx, **options))(together)
        found = {"error": jax.vmap(lambda params: error(params, test))(tuned.params), "validation": tuned.errors}
        return {name: {k: values[i] for k, values in found.items()} for i, name in enumerate(named)}

    keys = jax.random.split(key, len(inputs))
    return jax.jit(jax.vmap(of_seed, (0, 0, 0, None, None)))(keys, inputs, targets, validation, test)


def gains(cells: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]], baseline: str, other: str) -> dict[str, float]:
    """Metrics of what `compare_starts` gave for two starts, by cells whose names end in `_` and a number of labels.

    Mean test errors and their standard deviations over seeds, such as `error_random_100` and `error_random_100_std`,
    and how much smaller the mean error of `other` is than that of `baseline`: `relative_gain_100` = 1 − other/baseline.
    """
    found: dict[str, float] = {}
    for cell, starts in cells.items():
        count, errors = cell.rpartition("_")[2], {name: starts[name]["error"] for name in (baseline, other)}
        for name, values in errors.items():
            found[f"error_{name}_{count}"] = float(values.mean())
            found[f"error_{name}_{count}_std"] = float(values.std(ddof=1))
        found[f"relative_gain_{count}"] = float(1 - errors[other].mean() / errors[baseline].mean())
    return found
