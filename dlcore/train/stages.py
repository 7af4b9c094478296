"""The stages of a run, one after another: those that are done are left alone, runs that they need are trained once."""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from dlcore.parallel import processes
from dlcore.train import _process, environment, outcome, run
from dlcore.train._fitting import Stop, check_loop, fit_result, run_fit
from dlcore.train._record import clock
from dlcore.train._run_folder import LAYOUT, claim, locked, read_json, write_json
from dlcore.train._studying import run_study, study_result
from dlcore.train._system import Fit, Result, Results, RunSpec, Study, System, beside, compiled, main_fit
from dlcore.train.progress import attempt, say
from dlcore.train.run import Run


def never() -> bool:
    """A run that nobody stops."""
    return False


def execute(made: Run, stop: Stop = never) -> bool:
    """Every stage of a run that is not done; summary, what stands beside it, report. Whether it finished.

    Raises `ValueError`, before anything is written, for settings of a fit that cannot be.
    """
    began = time.monotonic()
    _process.watch()
    for name, stage in made.system.stages.items():
        if isinstance(stage, Fit):
            check_loop(made, name, stage)
    with ExitStack() as stack:
        if processes.is_main():
            stack.enter_context(locked(made.folder))
            claim(made.folder, made.identity(), made.notes(), made.config)
            began -= note_environment(made.folder / "environment.json")
            stack.callback(lambda: note_wall_seconds(made, time.monotonic() - began))
        for name, stage in made.system.stages.items():
            if beside(stage) or done(made, name):
                continue
            if not run_stage(made, name, stop):
                return False
        if processes.is_main():
            outcome.summarize(made)
            complete(made)
            seconds = time.monotonic() - began
            outcome.told(made, seconds)
            say(f"{outcome.show(read_json(made.folder / 'summary.json')['metrics'])}  wall time {clock(seconds)}")
    return True


def note_environment(path: Path) -> float:
    """Write what the run runs on; of one that goes on, say what has changed.

    The command that began it stays, and so do the seconds that earlier starts took, which are returned.
    """
    now, before = environment.describe(), read_json(path) if path.exists() else {}
    if before and (changed := environment.changes(before, now)):
        say(f"its bits may not be those of a run in one go: {'; '.join(changed)}")
    kept = {name: before[name] for name in ("command", "wall_seconds") if name in before}
    write_json(path, {**now, **kept})
    return kept.get("wall_seconds", 0.0)


def note_wall_seconds(made: Run, seconds: float) -> None:
    """Keep how long all starts of a run took, whether this one has finished it or was stopped."""
    path = made.folder / "environment.json"
    write_json(path, {**read_json(path), "wall_seconds": seconds})


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
