"""What a finished run leaves at the top of its folder: the summary first, then figures and report."""

import hashlib
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from dlcore import report
from dlcore.report import curves, panel
from dlcore.report.text import number
from dlcore.train import _process
from dlcore.train._record import read_rows
from dlcore.train._run_folder import read_json, write_json
from dlcore.train._system import beside
from dlcore.train.progress import attempt, say
from dlcore.train.run import Run


def summarize(run: Run) -> None:
    """Write `summary.json` from the results of the stages that are done."""
    required = [name for name, stage in run.system.stages.items() if not beside(stage)]
    results = {name: read_json(run.folder / name / "result.json") for name in required}
    fits = [found for found in results.values() if found["kind"] == "fit"]
    last = fits[-1] if fits else {}
    digests = [found["sha256"] for found in results.values()]
    whole = hashlib.sha256("".join(digests).encode()).hexdigest()
    summary = {
        "experiment": run.names.get("experiment"),
        "preset": run.names.get("preset"),
        "data": run.names.get("data", run.spec.name),
        "seed": run.seed,
        "steps": sum(found["steps"] for found in fits),
        "parameters": last.get("parameters", 0),
        "train_seconds": sum(found["train_seconds"] for found in fits),
        "compile_seconds": sum(found["compile_seconds"] for found in fits),
        "images_per_second": last.get("images_per_second", 0.0),
        "process_seconds": _process.seconds(),
        "programs": dict(zip(("needed", "cached"), _process.programs(), strict=True)),
        "peak_memory_bytes": peak_memory(),
        "state_sha256": digests[0] if len(digests) == 1 else whole,
        "metrics": metrics_of(run),
    }
    write_json(run.folder / "summary.json", summary)
    seconds = f"{summary['train_seconds']:.1f} s, compiling {summary['compile_seconds']:.1f} s"
    say(f"finished {summary['steps']} steps in {seconds}; {_process.in_words()}" if fits else "finished")


def told(run: Run, wall_seconds: float) -> None:
    """Put the time that the run took, all in all, into the summary; no digest includes it."""
    summary = read_json(run.folder / "summary.json")
    write_json(run.folder / "summary.json", {**summary, "wall_seconds": wall_seconds})


def together(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Metrics of stages as `test/NAME`; one that two stages have is `STAGE/test/NAME`."""
    names = [name for found in metrics.values() for name in found]
    return {
        f"test/{name}" if names.count(name) == 1 else f"{stage}/test/{name}": value
        for stage, found in metrics.items()
        for name, value in found.items()
    }


def gather(run: Run) -> None:
    """Put the metrics of the stages that stand beside, as far as they are done, into the summary."""
    summary = read_json(run.folder / "summary.json")
    if summary["metrics"] != (metrics := metrics_of(run)):
        write_json(run.folder / "summary.json", {**summary, "metrics": metrics})


def metrics_of(run: Run) -> dict[str, Any]:
    """The metrics of all stages that are done; one beside that has a name in use is `STAGE/test/NAME`."""
    paths = {name: run.folder / name / "result.json" for name in run.system.stages}
    found = {name: read_json(path)["metrics"] for name, path in paths.items() if path.exists()}
    stands_beside = [name for name in found if beside(run.system.stages[name])]
    held = together({name: metrics for name, metrics in found.items() if name not in stands_beside})
    for stage in stands_beside:
        own = together({stage: found[stage]})
        held |= {name if name not in held else f"{stage}/{name}": value for name, value in own.items()}
    return held


def draw(run: Run, notes: dict[str, str]) -> None:
    """Draw the curves and panels of every stage into its folder, and write the report; what fails is noted."""
    say("drawing the figures")
    for name in run.system.stages:
        folder = run.folder / name
        panels = attempt(f"the panels of {name}", lambda folder=folder: panel.load(folder), notes) or {}
        if (folder / "metrics.jsonl").exists():
            rows = read_rows(folder / "metrics.jsonl")
            panels = {"curves": panel.panel("figures.curves", curves.first(rows)), **panels}
            panels |= {"more_curves": panel.panel("figures.curves", more)} if (more := curves.rest(rows)) else {}
        for title, one in panels.items():
            path = folder / "figures" / title
            attempt(f"the figure {title}", lambda one=one, path=path: keep(panel.draw(one), path), notes)
    told = {"headline": run.system.headline, "picture": run.system.picture}
    stages = tuple(run.system.stages)
    page = attempt("report.html", lambda: report.html.write_report(run.folder, notes, stages, **told), notes)
    if page is not None:
        say(f"wrote {page}")


def keep(drawn: Any, path: Path) -> None:
    """Write a figure as PATH.png, or a page as PATH.html."""
    if isinstance(drawn, report.explorer.Page):
        drawn.save(path.with_name(f"{path.name}.html"))
    else:
        report.figures.save(drawn, path.with_name(f"{path.name}.png"))


def peak_memory() -> int:
    """Most bytes held at once: on the first accelerator, or by this process on CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return stats.get("peak_bytes_in_use") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def show(metrics: Mapping[str, Any]) -> str:
    """Metrics on one line."""
    return "  ".join(f"{k} {v}" if isinstance(v, str) else f"{k} {number(v)}" for k, v in metrics.items())
