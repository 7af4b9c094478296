"""Train, open, sample and evaluate runs without flags.

from dlcore.train import session
run = session.train("classify", data="digits", preset="smoke", folder="runs/first")
run.metrics, run.params
run = session.open_run("runs/first")
run.evaluate("validation")
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from dlcore.data.source import Data
from dlcore.lookup import check_name
from dlcore.parallel import processes
from dlcore.parallel.mesh import make_mesh
from dlcore.train import environment, export, outcome, run
from dlcore.train.evaluate import make_evaluate
from dlcore.train.fitting import (
    Stop,
    check_loop,
    data_of,
    evaluation_key,
    fit_result,
    restore,
    restored_view,
    run_fit,
)
from dlcore.train.progress import announced, attempt, say
from dlcore.train.run import Run
from dlcore.train.run_folder import LAYOUT, check_data, check_identity, claim, locked, read_json, write_json
from dlcore.train.studying import run_study, study_result
from dlcore.train.system import Fit, Result, Results, RunSpec, Study, System, beside, check, compiled, main_fit
from dlcore.types import Params, State


def never() -> bool:
    """A run that nobody stops."""
    return False


def train(
    system: str | System,
    *,
    data: str | Data = "digits",
    folder: str | Path | None = None,
    preset: str = "default",
    seed: int = 0,
    settings: Sequence[str] = (),
    **options: Any,
) -> "OpenRun":
    """Train an experiment by name, or a system on `Data` at hand, into a folder; or go on where it stopped.

    `settings` are overrides such as "train.epochs=2"; `options` those of `dlcore.train.run.named`. Raises `ValueError`
    for a folder that holds another run.
    """
    if isinstance(system, str):
        source = {} if isinstance(data, str) else {"source": data}
        name = data if isinstance(data, str) else data.spec.name
        made = run.named(
            system, data=name, preset=preset, seed=seed, settings=settings, folder=folder, **source, **options
        )
    else:
        if isinstance(data, str) or folder is None:
            raise ValueError("train: a system at hand needs data= as Data, and folder=")
        made = Run(Path(folder), check(system), data, data.spec, seed, {})
    check_identity(made.folder, made.identity())
    if not finished(made):
        execute(made)
    elif lacking(made):
        finish(made)
    return OpenRun(made)


def execute(made: Run, stop: Stop = never) -> bool:
    """Every stage of a run that is not done; summary, what stands beside it, report. Whether it finished.

    Raises `ValueError`, before anything is written, for settings of a fit that cannot be.
    """
    for stage in made.system.stages.values():
        if isinstance(stage, Fit):
            check_loop(made, stage)
    with ExitStack() as stack:
        if processes.is_main():
            stack.enter_context(locked(made.folder))
            claim(made.folder, made.identity(), made.notes())
            write_json(made.folder / "environment.json", environment.describe())
        for name, stage in made.system.stages.items():
            if beside(stage) or done(made, name):
                continue
            if not run_stage(made, name, stop):
                return False
        if processes.is_main():
            outcome.summarize(made)
            complete(made)
            say(outcome.show(read_json(made.folder / "summary.json")["metrics"]))
    return True


def complete(made: Run) -> None:
    """What stands beside the results and is not there yet, then figures and report; what fails is noted."""
    notes: dict[str, str] = {}
    if finished(made):
        possible = made.data is not None and jax.process_count() == 1
        for name in missing(made) if possible else ():
            attempt(name, lambda name=name: run_stage(made, name, never), notes)
        outcome.gather(made)
    outcome.draw(made, notes)


def finish(made: Run) -> None:
    """`complete` for a finished run, which was stopped while it drew, or of which something failed."""
    say("what it lacks beside its result is made now")
    with locked(made.folder):
        complete(made)


def finished(made: Run) -> bool:
    """Whether a run has its summary."""
    return (made.folder / "summary.json").exists()


def lacking(made: Run) -> bool:
    """Whether a finished run lacks its report, or something that this process could compute beside its result."""
    return jax.process_count() == 1 and bool(missing(made) or not (made.folder / "report.html").exists())


def missing(made: Run) -> list[str]:
    """The stages beside the result that are not done."""
    return [name for name, stage in made.system.stages.items() if beside(stage) and not done(made, name)]


def done(made: Run, name: str) -> bool:
    """Whether a stage has a result. All processes see the same file."""
    return (made.folder / name / "result.json").exists()


def run_stage(made: Run, name: str, stop: Stop) -> bool:
    """Fit or study; whether it is finished."""
    stage = made.system.stages[name]
    results = opened(made, stage.uses)
    if isinstance(stage, Study):
        finished = run_study(made, name, stage, results, stop)
        return not processes.any_process(not finished)
    fitted = run_fit(made, name, stage, results, stop)
    # The others go on when the main process has written the result.
    processes.any_process(False)
    if not fitted.finished:
        say(f"stopped and saved at step {fitted.step} of {name}; run the same command to go on")
    return fitted.finished


def opened(made: Run, names: Sequence[str]) -> Results:
    """The results of stages and needs by name, on the host; a needed run is trained if it is not there."""
    return {n: needed(made, made.system.needs[n]) if n in made.system.needs else result(made, n) for n in names}


def result(made: Run, name: str) -> Result:
    """The result of a finished stage."""
    stage = made.system.stages[name]
    return fit_result(made, name, stage) if isinstance(stage, Fit) else study_result(made, name)


def needed(made: Run, spec: RunSpec) -> Result:
    """The main fit of a run that others share, in `shared/` beside the run; trained once per data, seed and config."""
    other = run.named(
        spec.experiment,
        data=made.names.get("data", made.spec.name),
        preset=spec.preset,
        seed=spec.seed,
        source=made.whole(),
        image_size=made.names.get("image_size"),
        data_dir=made.data_dir,
    )
    identity = {"layout": LAYOUT, **other.identity(), "needs": to_json_needs(other.system)}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    beside_run = made.folder.parent
    shared = beside_run if beside_run.name == "shared" else beside_run / "shared"
    other = other._replace(folder=shared / f"{spec.experiment.rpartition('.')[2]}-{key}")
    with ExitStack() as stack:
        if processes.is_main():
            stack.enter_context(locked(other.folder / "turn", wait=True))
        if processes.any_process(not finished(other)):
            say(f"training {spec.experiment} ({spec.preset}), which this run needs, in {other.folder}")
            execute(other)
    name, _ = main_fit(other.system)
    return result(other, name)._replace(
        metrics=read_json(other.folder / "summary.json")["metrics"], functions=compiled(other.system)
    )


def to_json_needs(system: System) -> dict[str, Any]:
    """The needs of a system as JSON values."""
    return {name: dict(spec._asdict()) for name, spec in system.needs.items()}


def open_run(
    folder: str | Path,
    *,
    system: System | None = None,
    data: Data | None = None,
    data_dir: str | None = None,
    with_data: bool = True,
) -> "OpenRun":
    """The run of a folder, finished or not; `system` and `data` are those that were at hand when it was trained.

    A file that `launch.export` wrote opens as well, without data. Raises `DataError` if the data of a run has changed
    since it began.
    """
    if Path(folder).suffix == export.SUFFIX:
        return OpenRun(*export.read(Path(folder)))
    made = run.of_folder(Path(folder), data_dir=data_dir, with_data=with_data, system=system, source=data)
    if made.data is not None:
        check_data(made.folder, made.identity()["fingerprint"])
    return OpenRun(made)


class OpenRun:
    """A run to look at: its config, params, state, metrics and functions; or one of which only a file is left."""

    def __init__(self, made: Run, exported: export.Exported | None = None):
        self.run = made
        self._exported = exported

    @property
    def stage(self) -> str:
        """The name of its last fit; raises `ValueError` for a run that has none."""
        return main_fit(self.run.system)[0]

    @property
    def fit(self) -> Fit:
        """Its last fit; raises `ValueError` for a run that has none."""
        return main_fit(self.run.system)[1]

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.run.folder

    @property
    def config(self) -> Any:
        """Its configuration."""
        return self.run.config

    @property
    def step(self) -> int:
        """The step of the checkpoint that counts."""
        if self._exported is not None:
            return self._exported.step
        return int(restore(self.run, self.stage, self.fit, make_mesh()).step)

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics of its summary; empty while it is not finished."""
        if self._exported is not None:
            return dict(self._exported.metrics)
        return read_json(self.folder / "summary.json")["metrics"] if finished(self.run) else {}

    def result(self, stage: str) -> Result:
        """What a finished stage has come to: metrics, and params and state of a fit or arrays of a study."""
        check_name("stage", stage, self.run.system.stages)
        return result(self.run, stage)

    @cached_property
    def _view(self) -> Any:
        held = self._exported
        return restored_view(self.run, self.stage, self.fit) if held is None else held.view

    @property
    def params(self) -> Params:
        """The params that evaluation uses, of its last fit."""
        return self._view.params

    @property
    def state(self) -> State:
        """The model state that belongs to them."""
        return self._view.state

    @cached_property
    def functions(self) -> Mapping[str, Callable[..., Any]]:
        """What it is used for, `f(params, state, *inputs)` by name, compiled; inputs may be NumPy arrays."""
        return compiled(self.run.system)

    def sample(self, num: int, *, key: jax.Array | int = 0, **options: Any) -> jax.Array:
        """`num` samples of a generative model; raises `ValueError` for any other, and for options it does not take."""
        if self.fit.sample is None:
            raise ValueError(f"{self.run.names.get('experiment', 'this system')} is not a generative model")
        for name in options:
            if name not in self.fit.sample_options:
                known = ", ".join(self.fit.sample_options) or "no options"
                raise ValueError(f"sample: {name}= has no meaning for this run, which takes {known}")
        key = jax.random.key(key) if isinstance(key, int) else key
        return self.fit.sample(self.params, self.state, key, num, **options)

    def evaluate(self, split: str = "test") -> dict[str, Any]:
        """Metrics of a split: "test" by the full protocol, "validation" or "train"."""
        mesh = make_mesh()
        data = data_of(self.run, self.fit, opened(self.run, self.fit.uses))
        state = restore(self.run, self.stage, self.fit, mesh)
        evaluate = make_evaluate(self.fit, mesh, self.fit.loop.eval_batch_size, full=split == "test")
        found = evaluate(state, announced(getattr(data, split), split), evaluation_key(self.run))
        return {**found, **self.fit.ruler}
