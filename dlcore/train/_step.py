"""The training step: composed from updates, compiled for a mesh, several per dispatch where that pays."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dlcore.keys import fold_name
from dlcore.parallel.mesh import batch_sharding, replicated
from dlcore.parallel.sharding import Rule, shardings
from dlcore.types import Batch, Carry, Key, Mean, TrainState, Update

Metrics: TypeAlias = Mapping[str, Mean]
Step: TypeAlias = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Preprocess: TypeAlias = Callable[..., Batch]
"""`(batch, *, key, train) -> batch`: raw rows to what the objective takes (scaling, augmentation)."""


def make_train_step(update: Update, preprocess: Preprocess | None = None) -> Step:
    """One step: `update` on one batch, then step + 1. Compose several updates with `dlcore.train.chain`.

    The key of a step is the state's key with the step number folded in, so that the stream of
    randomness depends on nothing but the seed and the step.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = step_key(state)
        if preprocess is not None:
            batch = preprocess(batch, key=fold_name(key, "preprocess"), train=True)
        carry = Carry(state.params, state.state, state.memory)
        carry, metrics = update.apply(carry, batch, key=fold_name(key, "update"), step=state.step)
        return TrainState(state.step + 1, state.key, *carry), metrics

    return step


def step_key(state: TrainState) -> Key:
    """The key of the step that `state` is about to take."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)


def repeat(step: Step, fetch: Callable[[Any, Any], Batch]) -> Callable[..., tuple[TrainState, Metrics]]:
    """Several steps in one: `(state, totals, resident, feeds) -> (state, totals)`.

    `feeds` has a leading axis of K steps; `fetch(resident, feed)` makes each step's batch. Metrics
    are added to `totals`. One step is inlined; more run in a `lax.scan`.
    """

    def one(carry: tuple[TrainState, Metrics], resident: Any, feed: Any) -> tuple[TrainState, Metrics]:
        state, totals = carry
        state, metrics = step(state, fetch(resident, feed))
        return state, jax.tree.map(jnp.add, totals, metrics)

    def run(state: TrainState, totals: Metrics, resident: Any, feeds: Any) -> tuple[TrainState, Metrics]:
        if jax.tree.leaves(feeds)[0].shape[0] == 1:
            return one((state, totals), resident, jax.tree.map(lambda x: x[0], feeds))
        return jax.lax.scan(lambda carry, feed: (one(carry, resident, feed), None), (state, totals), feeds)[0]

    return run


def compile_step(run: Callable[..., Any], mesh: Mesh, rule: Rule, state: TrainState) -> Callable[..., Any]:
    """`jax.jit` of `repeat`'s function with its shardings; the only place that knows about devices.

    The state lies as `rule` says and is donated; feeds are split over the data axis
    behind their step axis; resident data is on every device. Losses are means over the global
    batch, so XLA's reductions make gradients and batch statistics independent of the number of devices.
    """
    where = shardings(state, mesh, rule)
    everywhere = replicated(mesh)
    return jax.jit(
        run,
        in_shardings=(where, everywhere, everywhere, batch_sharding(mesh, axis=1)),
        out_shardings=(where, everywhere),
        donate_argnums=0,
    )
