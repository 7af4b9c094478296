"""A model trained on a few labelled examples, kept where the validation split is happiest (lecture 11.1, 22)."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array

from dlcore.evaluation import classification_summary, classification_sums
from dlcore.studies._judges import in_blocks, scores
from dlcore.types import Key, Model, Objective, Params, State

Rows = Mapping[str, Any]


class Learner(NamedTuple):
    """A classifier of grey levels that can be trained, as `learner` takes it."""

    objective: Objective
    init: Callable[[Key, Any], tuple[Params, State]]
    judged: Callable[[Params, State, Array], Array]
    """`(params, state, images) -> log p(y|x)`."""


def measured(classifier: Learner, name: str) -> dict[str, Any]:
    """The fields of a fit that measure it: `evaluate`, and `summarize` to metrics whose names end in `name`."""

    def evaluate(params: Params, state: State, batch: Rows, key: Key) -> dict[str, Any]:
        log_posterior = classifier.judged(params, state, batch["image"])
        return classification_sums(log_posterior, batch["label"], batch["where"])

    def summarize(sums: Mapping[str, Any]) -> dict[str, float]:
        return {f"{metric}_{name}": value for metric, value in classification_summary(sums).items()}

    return {"evaluate": evaluate, "summarize": summarize}


def discriminative(network: Model, objective: Objective, prepare: Callable[..., Rows]) -> Learner:
    """A network under the objective of `prepare(batch, *, key, train)`, which makes its input `x` of raw rows."""
    prepared = functools.partial(prepare, key=None, train=False)

    def loss(params: Params, state: State, batch: Rows, **options: Any) -> Any:
        return objective(params, state, prepared(batch), **options)

    def judged(params: Params, state: State, images: Array) -> Array:
        return jax.nn.log_softmax(network.apply(params, state, prepared({"image": images})["x"])[0])

    return Learner(loss, lambda key, batch: network.init(key, prepared(batch)["x"]), judged)


def balanced(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """`count` row numbers in order, equally many of each class as far as there are; larger counts contain smaller ones.

    Raises `ValueError` for more rows than there are, or fewer than classes.
    """
    classes = np.unique(labels)
    if not len(classes) <= count <= len(labels):
        most = len(labels)
        raise ValueError(f"balanced: {count} rows of {len(classes)} classes; use {len(classes)} to {most}")
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(np.flatnonzero(labels == c)) for c in classes]
    turns = [(turn, c) for c, rows in enumerate(shuffled) for turn in range(len(rows))]
    return np.sort([shuffled[c][turn] for turn, c in sorted(turns)[:count]])


def learner(
    objective: Objective,
    init: Callable[[Key, Any], tuple[Params, State]],
    judged: Callable[[Params, State, Array], Array],
    tx: Any,
    *,
    batch_size: int,
    steps: int,
    checks: int = 5,
) -> Callable[..., np.ndarray]:
    """`learn(key, rows, held, chosen, images) -> log p(y|x)` of a model that learns from the chosen rows alone.

    `steps` batches, drawn with replacement; of `checks` points in training, evenly spaced, the one counts at which
    `judged(params, state, images)` gives `held` the least −log p(y|x). Everything compiles once, however many rows are
    chosen from one split.
    """
    judge = jax.jit(judged)

    @jax.jit
    def step(carry: tuple[Params, State, Any], rows: Rows, chosen: Array, count: Array, key: Key) -> Any:
        params, state, memory = carry
        own, inner = jax.random.split(key)
        index = chosen[jax.random.randint(own, (batch_size,), 0, count)]
        batch = {name: array[index] for name, array in rows.items()}
        (_, aux), grads = jax.value_and_grad(objective, has_aux=True)(params, state, batch, key=inner, train=True)
        updates, memory = tx.update(grads, memory, params)
        return optax.apply_updates(params, updates), aux.state, memory

    def learn(key: Key, rows: Rows, held: Rows, chosen: np.ndarray, images: np.ndarray) -> np.ndarray:
        def verdict(carry: tuple[Params, State, Any], x: np.ndarray) -> np.ndarray:
            return in_blocks(lambda part: judge(carry[0], carry[1], part), x)

        # Of one length, so that one program serves all counts.
        padded = np.zeros(len(rows["label"]), np.int32)
        padded[: len(chosen)] = chosen
        params, state = init(key, {name: array[padded[:batch_size]] for name, array in rows.items()})
        carry, best = (params, state, tx.init(params)), (np.inf, None)
        device = jax.device_put((dict(rows), padded, np.int32(len(chosen))))
        for i in range(steps):
            carry = step(carry, *device, jax.random.fold_in(key, i))
            if (i + 1) * checks // steps > i * checks // steps:
                _, nats = scores(verdict(carry, held["image"]), held["label"])
                best = (nats, carry) if best[1] is None or nats < best[0] else best
        return verdict(best[1], images)

    return learn
