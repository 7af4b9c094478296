"""Train an experiment, or go on with the run in a folder.

python -m launch.train --experiment=classify --data=digits --preset=default
python -m launch.train --workdir=runs/classify-digits-default
"""

import resource
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import jax
import numpy as np

from dlcore.data.pipeline import choose
from dlcore.parallel import processes
from dlcore.parallel.mesh import make_mesh, to_host
from dlcore.parallel.sharding import named_rule
from dlcore.report import figures
from dlcore.report.html import write_report
from dlcore.train.checkpoint import Checkpoints
from dlcore.train.evaluate import evaluated, make_evaluate
from dlcore.train.experiment import Experiment
from dlcore.train.loop import Fitted, cadence, fit, make_engine
from dlcore.train.record import Recorder, read_rows
from dlcore.train.run_folder import check_identity, claim, locked, read_json, write_json
from dlcore.train.state import count_params, sha256
from dlcore.types import TrainState
from launch import environment, quality, request, runtime

GRID = 64
"""Samples in a grid."""


def main() -> None:
    """Resolve the run, train it, evaluate it on the test split, write summary and report."""
    runtime.start()
    stop = runtime.StopRequest()
    run = request.from_flags()
    check_identity(run.workdir, run.identity())
    if (run.workdir / "summary.json").exists():
        say(f"{run.workdir} holds a finished run: {show(read_json(run.workdir / 'summary.json')['metrics'])}")
        return
    fitted = train(run, stop)
    if not fitted.finished:
        say(f"stopped and saved at step {fitted.step}; run the same command to go on")


def train(run: request.Request, stop: Callable[[], bool] = lambda: False) -> Fitted:
    """Everything is checked before the folder is made; then fit, and conclude if it finished."""
    experiment, config, data = run.build(), run.config.train, run.source
    mesh, rule = make_mesh(), named_rule(config.sharding)
    process = (jax.process_index(), jax.process_count())
    feed = choose(data.train, kind=config.pipeline, seed=run.seed, batch_size=config.batch_size, process=process)
    engine = make_engine(experiment, feed, config, **run.start(), mesh=mesh, rule=rule)
    when = cadence(config, data.train.size, engine.dispatch)
    model = experiment.describe()
    evaluate, test = (make_evaluate(experiment, mesh, config.eval_batch_size, full=full) for full in (False, True))
    eval_key = jax.random.fold_in(jax.random.key(run.seed), 1)
    writes = run.workdir if processes.is_main() else None
    with ExitStack() as stack:
        if writes:
            stack.enter_context(locked(run.workdir))
            claim(run.workdir, run.identity(), run.notes())
            write_json(run.workdir / "environment.json", environment.describe())
        say(model)
        say(config.describe(data.train.size))

        def validate(state: TrainState) -> dict[str, float]:
            draw_grids(run, experiment, to_host(mesh, state))
            return evaluate(state, data.validation, eval_key)

        checkpoints = Checkpoints(run.workdir / "checkpoints", keep=config.keep)
        stack.callback(checkpoints.close)
        fitted = fit(
            experiment,
            feed,
            config,
            engine,
            when,
            mesh=mesh,
            checkpoints=checkpoints,
            open_recorder=lambda step: Recorder(writes, total=when.total, step=step),
            validate=validate if data.validation.size else None,
            stop=stop,
        )
        if fitted.finished:
            conclude(run, experiment, fitted, to_host(mesh, fitted.state), test(fitted.state, data.test, eval_key))
        return fitted


def draw_grids(run: request.Request, experiment: Experiment, state: TrainState) -> None:
    """Samples of the moment, always from the same key: of the params and of their moving average."""
    if experiment.sample is None or not processes.is_main():
        return
    sources = {"": (state.params, state.state)} | ({"-ema": evaluated(state)} if state.ema else {})
    for name, source in sources.items():
        images = np.asarray(experiment.sample(*source, jax.random.key(0), GRID))
        if images.ndim == 4:
            path = run.workdir / "samples" / f"step-{int(state.step):06d}{name}.png"
            figures.save_png(figures.image_grid(images), path)


def conclude(run: request.Request, experiment: Experiment, fitted: Fitted, state: Any, test: dict[str, float]) -> None:
    """Write figures, summary and report of a finished run, from its state on the host."""
    if not processes.is_main():
        return
    draw(run, experiment, state)
    found = quality.measure(run, experiment, *evaluated(state), train)
    steps, seconds = fitted.step, fitted.progress.train_seconds
    beside = experiment.anchors(run.source) if experiment.anchors else {}
    metrics = {f"test/{name}": value for name, value in (test | experiment.ruler() | beside | found).items()}
    summary = {
        "experiment": run.experiment,
        "preset": run.preset,
        "data": run.data,
        "seed": run.seed,
        "steps": steps,
        "evaluated_step": int(state.step),
        "parameters": count_params(state.params),
        "train_seconds": seconds,
        "compile_seconds": fitted.progress.compile_seconds,
        "images_per_second": steps * run.config.train.batch_size / max(seconds, 1e-9),
        "peak_memory_bytes": peak_memory(),
        "state_sha256": sha256(state),
        "metrics": metrics,
    }
    write_json(run.workdir / "summary.json", summary)
    report = write_report(run.workdir)
    say(f"finished {steps} steps in {seconds:.1f} s, compiling {summary['compile_seconds']:.1f} s; {report}")
    say(show(metrics))


def draw(run: request.Request, experiment: Experiment, state: Any) -> None:
    """Draw the figures of a run into its folder."""
    rows = read_rows(run.workdir / "metrics.jsonl")
    drawn = {"curves": figures.curves(rows), **experiment.figures(*evaluated(state), run.source)}
    for name, figure in drawn.items():
        figures.save(figure, run.workdir / "figures" / f"{name}.png")


def peak_memory() -> int:
    """Most bytes held at once: on the first accelerator, or by this process on CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return stats.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def show(metrics: dict[str, Any]) -> str:
    """Metrics on one line."""
    return "  ".join(f"{k} {v}" if isinstance(v, str) else f"{k} {v:.4f}" for k, v in metrics.items())


def say(text: str) -> None:
    """Print, on the main process."""
    if processes.is_main():
        print(text, flush=True)


if __name__ == "__main__":
    runtime.run(main)
