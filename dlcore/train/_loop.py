"""The one training loop: dispatch, log, evaluate and checkpoint by cadence."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from dlcore.data import Pipeline
from dlcore.parallel.mesh import global_batch, on_every_device
from dlcore.parallel.processes import any_process
from dlcore.report.text import number
from dlcore.train._checkpoint import Checkpoints
from dlcore.train._compiling import Compiling, compiling
from dlcore.train._config import LoopConfig
from dlcore.train._engine import Engine
from dlcore.train._profile import Trace
from dlcore.train._record import Recorder
from dlcore.train._stopwatch import Stopwatch
from dlcore.train._system import Fit
from dlcore.types import Mean, TrainState

IN_FLIGHT = 2
"""Dispatches that may be under way at once: enough to hide the host, few enough to stop soon."""


class Cadence(NamedTuple):
    """When things happen, in steps; 0 means only at the end. All are multiples of `dispatch`."""

    total: int
    dispatch: int
    log: int
    evaluate: int

    def due(self, every: int, step: int) -> bool:
        """Whether something that happens `every` steps, and at the end, happens at `step`."""
        return step == self.total or (every > 0 and step % every == 0)


def cadence(config: LoopConfig, examples: int, dispatch: int) -> Cadence:
    """The cadences of a run on `examples` training examples, rounded up to whole dispatches."""
    for name in ("log_every", "eval_batch_size", "keep"):
        if getattr(config, name) < 1:
            raise ValueError(f"train.{name} must be at least 1, got {getattr(config, name)}")
    for name in ("epochs", "steps", "eval_every", "checkpoint_seconds", "patience", "steps_per_dispatch", "workers"):
        if getattr(config, name) < 0:
            raise ValueError(f"train.{name} must not be negative, got {getattr(config, name)}")
    epoch = config.steps_per_epoch(examples)

    def whole(steps: float) -> int:
        return math.ceil(max(steps, 1) / dispatch) * dispatch if steps else 0

    return Cadence(
        config.total_steps(examples),
        dispatch,
        whole(config.log_every),
        whole(round(config.eval_every * epoch)),
    )


@dataclass
class Progress:
    """What a restart must know beside the training state: JSON-able, saved with every checkpoint."""

    position: Mapping[str, Any]
    totals: Mapping[str, Sequence[float]]
    best_value: float | None = None
    best_step: int | None = None
    bad_evaluations: int = 0
    stopped_early: bool = False
    train_seconds: float = 0.0
    compile_seconds: float = 0.0

    def judge(self, value: float, step: int, mode: str, patience: int) -> None:
        """Early stopping (lecture 11.1): count evaluations since the best; stop after `patience` of them.

        NaN is never better, and whatever is not NaN is better than NaN. Raises `ValueError` for a mode other than
        "min" and "max".
        """
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be min or max, got {mode!r}")
        first = self.best_value is None or math.isnan(self.best_value)
        if not math.isnan(value) and (first or (value < self.best_value if mode == "min" else value > self.best_value)):
            self.best_value, self.best_step, self.bad_evaluations = value, step, 0
        else:
            self.bad_evaluations += 1
            self.stopped_early = patience > 0 and self.bad_evaluations >= patience


class Fitted(NamedTuple):
    """How a call of `fit` ended: the state, and whether the run is finished or was asked to stop."""

    state: TrainState
    step: int
    progress: Progress
    finished: bool


def fit(
    stage: Fit,
    pipeline: Pipeline,
    config: LoopConfig,
    engine: Engine,
    when: Cadence,
    *,
    mesh: Mesh,
    checkpoints: Checkpoints,
    open_recorder: Callable[[int], Recorder],
    validate: Callable[[TrainState], dict[str, float]] | None = None,
    stop: Callable[[], bool] = lambda: False,
    trace: Trace | None = None,
    programs: Mapping[int, Compiling] | None = None,
) -> Fitted:
    """Train to the end that `when` says, or until `stop()` says so, starting from the newest checkpoint.

    Everything that the result depends on is in the checkpoint, and dispatches begin at the same
    steps however often the run is interrupted: the final state is the same to the bit.
    `open_recorder(step)` opens the log, `trace` writes a profile of a few steps, `programs` are those that are being
    compiled already, by the number of their steps. With `patience`, the best parameters by the stage's monitor are
    restored at the end. Raises `FloatingPointError` when a metric is not finite.
    """
    loop = _Loop(stage, pipeline, config, mesh, checkpoints, engine, when, trace, programs or {})
    loop.start(open_recorder)
    try:
        while loop.step < when.total and not loop.progress.stopped_early:
            loop.advance()
            at_log = when.due(when.log, loop.step)
            if at_log:
                loop.report()
            improved = validate is not None and when.due(when.evaluate, loop.step) and loop.validate(validate)
            # Processes agree at log steps only: agreeing costs a round trip.
            may_agree = jax.process_count() == 1 or at_log
            asked = may_agree and any_process(stop())
            overdue = may_agree and any_process(loop.unsaved_seconds() > config.checkpoint_seconds)
            if improved or asked or overdue or loop.step == when.total or loop.progress.stopped_early:
                loop.save()
            if asked and loop.step < when.total:
                return loop.result(finished=False)
        return loop.result(finished=True)
    finally:
        if trace is not None:
            trace.stop()
        loop.log.close()


class _Loop:
    """The host side of a run: counters, clocks and files around the compiled step."""

    def __init__(
        self,
        stage: Fit,
        pipeline: Pipeline,
        config: LoopConfig,
        mesh: Mesh,
        checkpoints: Checkpoints,
        engine: Engine,
        when: Cadence,
        trace: Trace | None,
        begun: Mapping[int, Compiling],
    ):
        self.stage, self.pipeline, self.config, self.mesh = stage, pipeline, config, mesh
        self.checkpoints, self.engine, self.when, self.trace, self.begun = checkpoints, engine, when, trace, begun
        self.programs: dict[int, Any] = {}
        self.in_flight: deque[Any] = deque()
        self.unwritten: tuple[int, Any] | None = None

    def start(self, open_recorder: Callable[[int], Recorder]) -> None:
        """Take up the newest checkpoint, or begin."""
        notes: list[str] = []
        found = self.checkpoints.restore_newest(self.engine.like, notes.append)
        if found is None:
            self.state, self.step, self.progress = self.engine.make(), 0, Progress(self.pipeline.position(), {})
        else:
            self.state, saved, self.step = found
            self.progress = Progress(**saved)
            self.pipeline.seek(self.progress.position)
            notes.append(f"resuming at step {self.step}")
        saved_totals = {
            name: jax.tree.map(lambda zero, saved: np.asarray(saved, zero.dtype), self.engine.zeros[name], Mean(*saved))
            for name, saved in self.progress.totals.items()
        }
        self.zeros = on_every_device(self.mesh, self.engine.zeros)
        self.totals = on_every_device(self.mesh, {**self.engine.zeros, **saved_totals})
        self.clock = Stopwatch(self.progress.train_seconds)
        self.logged = (self.step, self.clock.seconds())
        self.began, self.first, self.saved_at = time.monotonic(), self.step, time.monotonic()
        self.log = open_recorder(self.step)
        for note in notes:
            self.log.say(note)

    def advance(self) -> None:
        """One dispatch."""
        count = min(self.engine.dispatch, self.when.total - self.step)
        feeds = global_batch(self.mesh, self.pipeline.next(count), axis=1)
        args = (self.state, self.totals, self.engine.resident, feeds)
        if count not in self.programs:
            self.programs[count] = self.compile(count, args)
        if self.trace is not None:
            self.trace.before(count, self.pause)
        self.clock.run()
        self.state, self.totals = self.programs[count](*args)
        self.step += count
        self.write_report()
        self.in_flight.append(self.totals)
        if len(self.in_flight) > IN_FLIGHT:
            jax.block_until_ready(self.in_flight.popleft())

    def compile(self, count: int, args: tuple[Any, ...]) -> Any:
        """The program for `count` steps, its compile time told apart."""
        self.pause()
        self.log.say("compiling the training step")
        began = time.monotonic()
        program, seconds = (self.begun.get(count) or compiling(self.engine.program, *args))()
        self.progress.compile_seconds += seconds
        self.began += time.monotonic() - began  # an estimate of the time left does not count it
        self.log.say(f"compiled the training step ({count} per dispatch) in {seconds:.1f} s")
        return program

    def pause(self) -> None:
        """Wait for the device, write what is to be logged, and stop the training clock."""
        jax.block_until_ready(self.totals)
        self.in_flight.clear()
        self.write_report()
        self.clock.pause()

    def report(self) -> None:
        """Take the sums since the last report; they are written when the next dispatch is under way."""
        self.unwritten = (self.step, self.totals)
        self.totals = self.zeros

    def write_report(self) -> None:
        """Log the means over the steps of the report that waits, if one does."""
        if self.unwritten is None:
            return
        (step, totals), self.unwritten = self.unwritten, None
        metrics = {name: float(mean.value()) for name, mean in jax.device_get(totals).items()}
        metrics |= {name: float(rate(step - 1)) for name, rate in self.stage.learning_rates.items()}
        last_step, last_seconds = self.logged
        self.logged = (step, self.clock.seconds())
        images = (step - last_step) * self.config.batch_size
        self.log.write(step, "train", metrics)
        left = (time.monotonic() - self.began) / max(step - self.first, 1) * (self.when.total - step)
        self.log.progress(step, metrics, images / max(self.logged[1] - last_seconds, 1e-9), left)
        if not all(map(math.isfinite, metrics.values())):
            raise FloatingPointError(f"training became non-finite near step {step}: {metrics}; lower the learning rate")

    def validate(self, evaluate: Callable[[TrainState], dict[str, float]]) -> bool:
        """Evaluate on the validation split; whether it is the best so far."""
        self.pause()
        if self.progress.best_step is None:
            self.log.say("evaluating on the validation split, for the first time")
        metrics = evaluate(self.state)
        self.log.write(self.step, "validation", metrics)
        self.log.say(f"step {self.step}  " + "  ".join(f"validation/{n} {number(v)}" for n, v in metrics.items()))
        name, mode = self.stage.monitor
        self.progress.judge(metrics[name], self.step, mode, self.config.patience)
        return self.progress.best_step == self.step

    def unsaved_seconds(self) -> float:
        """Time since the last checkpoint."""
        return time.monotonic() - self.saved_at

    def save(self) -> None:
        """Checkpoint state and progress."""
        self.pause()
        self.progress.position = self.pipeline.position()
        self.progress.totals = {n: tuple(map(float, m)) for n, m in jax.device_get(self.totals).items()}
        self.progress.train_seconds = self.clock.seconds()
        self.checkpoints.save(self.state, asdict(self.progress), step=self.step, best=self.progress.best_step)
        self.saved_at = time.monotonic()

    def result(self, finished: bool) -> Fitted:
        """Wait for the files; restore the best parameters if early stopping is on."""
        self.pause()
        self.checkpoints.wait()
        best = self.progress.best_step
        if finished and self.config.patience and best not in (None, self.step):
            self.log.say(f"restoring the best parameters, of step {best}")
            self.state, _ = self.checkpoints.restore(self.engine.like, best)
        return Fitted(self.state, self.step, self.progress, finished)
