"""What a finished run leaves in its folder: the summary first, then what may fail without harm."""

import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from dlcore.parallel import processes
from dlcore.report import figures
from dlcore.report.html import write_report
from dlcore.train.experiment import Experiment
from dlcore.train.loop import Fitted
from dlcore.train.record import read_rows
from dlcore.train.run_folder import read_json, write_json
from dlcore.train.state import count_params, sha256, view_of
from dlcore.types import TrainState
from launch import quality, request
from launch.progress import say

GRID = 64
"""Samples in a grid."""

Train = Callable[[request.Request], Any]


def attempt(what: str, action: Callable[[], Any], notes: dict[str, str]) -> Any:
    """What `action` returns; or None, when it fails: then one line on stderr and in `notes` says so.

    For what stands beside a result and must not cost it.
    """
    try:
        return action()
    except Exception as error:
        if os.environ.get("DLCORE_TRACEBACK"):
            traceback.print_exc()
        notes[what] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"note: {what} failed, the run goes on without ({notes[what]})", file=sys.stderr, flush=True)
        return None


def draw_grids(run: request.Request, experiment: Experiment, state: TrainState) -> None:
    """Samples of the moment, always from the same key: of the params and of their moving average."""
    if experiment.sample is None or not processes.is_main():
        return
    state = jax.device_put(state)
    view = view_of(experiment.update, state)
    sources = {"": state} | ({"-ema": view} if view.params is not state.params else {})
    for name, source in sources.items():
        images = np.asarray(experiment.sample(source.params, source.state, jax.random.key(0), GRID))
        if images.ndim == 4:
            path = run.workdir / "samples" / f"step-{int(state.step):06d}{name}.png"
            figures.save_png(figures.image_grid(images), path)


def conclude(
    run: request.Request, experiment: Experiment, fitted: Fitted, state: Any, test: Mapping[str, float], train: Train
) -> None:
    """Write the summary of a finished run, from its state on the host; then `complete` it."""
    if not processes.is_main():
        return
    steps, seconds = fitted.step, fitted.progress.train_seconds
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
        "pending": ["anchors", "quality"],
        "metrics": named(test | experiment.ruler()),
    }
    write_json(run.workdir / "summary.json", summary)
    say(f"finished {steps} steps in {seconds:.1f} s, compiling {summary['compile_seconds']:.1f} s")
    complete(run, experiment, state, train)
    say(show(read_json(run.workdir / "summary.json")["metrics"]))


def complete(run: request.Request, experiment: Experiment, state: Any, train: Train) -> None:
    """The numbers that stand beside the model's own and that the summary still lacks, then figures and report.

    What fails is noted in the report; the numbers are tried again the next time. `state` is on the host, `train`
    trains the classifier that measures samples.
    """
    notes: dict[str, str] = {}
    state = jax.device_put(state)
    if (run.workdir / "summary.json").exists():
        beside = {
            "anchors": lambda: experiment.anchors(run.source) if experiment.anchors else {},
            "quality": lambda: quality.measure(run, experiment, view_of(experiment.update, state), train),
        }
        for name in read_json(run.workdir / "summary.json").get("pending", []):
            found = attempt(name, beside[name], notes)
            if found is not None:
                _add(run, name, found)
    draw(run, experiment, state, notes)
    report = attempt("report.html", lambda: write_report(run.workdir, notes), notes)
    if report is not None:
        say(f"wrote {report}")


def _add(run: request.Request, name: str, found: Mapping[str, float]) -> None:
    """Put metrics into the summary, and take `name` off what is pending."""
    path = run.workdir / "summary.json"
    summary = read_json(path)
    pending = [other for other in summary.pop("pending") if other != name]
    metrics = summary.pop("metrics") | named(found)
    write_json(path, {**summary, **({"pending": pending} if pending else {}), "metrics": metrics})


def draw(run: request.Request, experiment: Experiment, state: Any, notes: dict[str, str]) -> None:
    """Draw the figures of a run into its folder; one that fails is noted, and the others are drawn."""

    def curves() -> Any:
        return {"curves": figures.curves(read_rows(run.workdir / "metrics.jsonl"))}

    drawn = attempt("the figure curves", curves, notes) or {}
    view = view_of(experiment.update, state)
    drawn |= attempt("figures", lambda: experiment.figures(view.params, view.state, run.source), notes) or {}
    for name, figure in drawn.items():
        path = run.workdir / "figures" / f"{name}.png"
        attempt(f"the figure {name}", lambda figure=figure, path=path: figures.save(figure, path), notes)


def named(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of the test split under their full names."""
    return {f"test/{name}": value for name, value in metrics.items()}


def peak_memory() -> int:
    """Most bytes held at once: on the first accelerator, or by this process on CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return stats.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def show(metrics: Mapping[str, Any]) -> str:
    """Metrics on one line."""
    return "  ".join(f"{k} {v}" if isinstance(v, str) else f"{k} {v:.4f}" for k, v in metrics.items())
