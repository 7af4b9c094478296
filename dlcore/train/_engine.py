"""A compiled fit on its data: the training state laid out on the mesh, and the program that moves it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from dlcore.data import Pipeline
from dlcore.nn import convolves
from dlcore.parallel.mesh import check_batch, on_every_device
from dlcore.parallel.sharding import Rule, shardings
from dlcore.train._config import LoopConfig
from dlcore.train._state import create
from dlcore.train._step import compile_step, make_train_step, repeat
from dlcore.train._system import Fit
from dlcore.types import Batch, Key, Mean, TrainState

STEPS_PER_DISPATCH = 10
"""Steps per dispatch where a loop on the device is as fast as one step after another."""


class Engine(NamedTuple):
    """A compiled fit on its data: what one dispatch needs."""

    like: TrainState
    """Shapes and shardings of the state."""
    start: Callable[[Batch], TrainState]
    """The state at the start from raw rows, made in place on its devices, jitted."""
    rows: Batch
    program: Callable[..., Any]
    """`(state, totals, resident, feeds) -> (state, totals)`, jitted."""
    resident: Any
    zeros: Mapping[str, Mean]
    dispatch: int
    """Steps per dispatch."""

    def make(self) -> TrainState:
        """The state at the start."""
        return self.start(self.rows)


def state_like(
    stage: Fit, rows: Batch, *, key: Key, mesh: Mesh, rule: Rule
) -> tuple[TrainState, Callable[[Batch], TrainState]]:
    """Shapes and shardings of the training state, and the jitted function that makes it in place on its devices.

    `rows` is a raw batch; one row gives the same shapes.
    """

    def make(rows: Batch) -> TrainState:
        batch = stage.preprocess(rows, key=None, train=False)
        return create(key, lambda key: stage.init(key, batch), stage.update)

    shapes = jax.eval_shape(make, rows)
    where = shardings(shapes, mesh, rule)
    like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, where)
    # It runs once; on CPU less effort compiles its random numbers in a quarter of the time.
    effort = {"xla_backend_optimization_level": 1} if mesh.devices.flat[0].platform == "cpu" else None
    return like, jax.jit(make, out_shardings=where, compiler_options=effort)


def make_engine(
    stage: Fit,
    pipeline: Pipeline,
    config: LoopConfig,
    *,
    rows: Batch,
    key: Key,
    mesh: Mesh,
    rule: Rule,
    epoch: int = 0,
) -> Engine:
    """Compose the training step of a stage, lay out its state on the mesh and place resident data.

    `rows` is a raw batch for starts that depend on data; `epoch` counts the steps of one, where that is known.
    """
    check_batch(config.batch_size, mesh, "train.batch_size")
    like, start = state_like(stage, rows, key=key, mesh=mesh, rule=rule)
    resident = on_every_device(mesh, dict(pipeline.resident))
    # Jitted, and given data that lie as in the program, it is traced once for both.
    step = jax.jit(make_train_step(stage.update, stage.preprocess))
    traced = jax.make_jaxpr(lambda s, r, f: step(s, pipeline.fetch(r, f))[1], return_shape=True)
    jaxpr, metrics = traced(like, resident, pipeline.example())
    most = paying_dispatch(jaxpr, mesh.devices.flat[0].platform)
    # What is streamed would be an epoch of images in the host's memory.
    dispatch = config.steps_per_dispatch or fitting_dispatch(config, most, epoch if pipeline.resident else 0)
    return Engine(
        like=like,
        start=start,
        rows=rows,
        program=compile_step(repeat(step, pipeline.fetch), mesh, rule, like),
        resident=resident,
        zeros=jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), metrics),
        dispatch=dispatch,
    )


def fitting_dispatch(config: LoopConfig, most: int, epoch: int) -> int:
    """The steps of an epoch, if whole ones are asked for and pay; else as many up to `most` as divide `log_every`."""
    if config.whole_epochs and most > 1 and epoch:
        return epoch
    return max(k for k in range(1, most + 1) if config.log_every % k == 0)


def paying_dispatch(jaxpr: Any, platform: str) -> int:
    """How many steps per dispatch pay: several, unless a convolution would run inside a loop on CPU."""
    return 1 if platform == "cpu" and convolves(jaxpr) else STEPS_PER_DISPATCH
