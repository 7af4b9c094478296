"""Evaluation of a split: every example once, sums added up exactly."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dlcore.data import Split, evaluation_batches
from dlcore.parallel.mesh import batch_sharding, global_batch
from dlcore.train._state import view_of
from dlcore.train._system import Fit
from dlcore.types import TrainState


def make_evaluate(
    stage: Fit, mesh: Mesh, batch_size: int, *, full: bool = False
) -> Callable[[TrainState, Split, jax.Array], dict[str, float]]:
    """A function `(state, split, key) -> metrics` for this mesh; `full` is the experiment's protocol for the test.

    The batch size is rounded up to a multiple of the devices; the last batch is padded with rows that
    `where` leaves out, so that shapes stay the same and every example has equal weight. Each batch begins from the
    model state of training; one that moves within a batch is the experiment's to hand on.
    """
    count = mesh.devices.size
    size = -(-batch_size // count) * count
    sums_of = (stage.evaluate_test if full else None) or stage.evaluate

    def one(state: TrainState, batch: Mapping[str, Any], key: jax.Array) -> Mapping[str, Any]:
        view = view_of(stage.update, state)
        return sums_of(view.params, view.state, stage.preprocess(batch, key=None, train=False), key)

    step = jax.jit(one, in_shardings=(None, batch_sharding(mesh), None))

    def evaluate(state: TrainState, split: Split, key: jax.Array) -> dict[str, float]:
        sums, last = None, None
        process = (jax.process_index(), jax.process_count())
        for batch in evaluation_batches(split, batch_size=size, process=process):
            # The sums of one batch are read while the next one is under way.
            new = step(state, global_batch(mesh, batch), key)
            sums, last = _added(sums, last), new
        report = jax.device_get(view_of(stage.update, state).report)
        reported = {name: float(mean.value()) for name, mean in report.items()}
        return stage.summarize(_added(sums, last)) | reported

    return evaluate


def _added(sums: Any, new: Any) -> Any:
    """Sums over batches on the host, in 64 bits: neither counts nor totals lose a digit, however many batches."""
    if new is None:
        return sums
    new = jax.tree.map(lambda x: np.asarray(x, float if jnp.issubdtype(x.dtype, jnp.inexact) else int), new)
    return new if sums is None else jax.tree.map(np.add, sums, new)
