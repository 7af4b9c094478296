"""Runs beside each other: those that differ in nothing but their seed are one line, mean ± standard deviation."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dlcore.lookup import check_name
from dlcore.train._record import read_rows
from dlcore.train._run_folder import check_layout, read_json


class Finished(NamedTuple):
    """What a run folder says of a finished run."""

    folder: Path
    names: Mapping[str, str]
    """Experiment, preset, data and every setting by its path, without the seed."""
    seed: int
    metrics: Mapping[str, float]
    """The metrics that are numbers, with `steps`, `parameters` and `train_seconds` of the summary."""
    curves: Mapping[str, Sequence[tuple[int, float]]]
    """(step, value) of what was measured on the validation split, by name."""


def finished(folder: Path) -> Finished:
    """Read a run folder. Raises `ValueError` for one that holds no run of this layout, or one that is not finished."""
    check_layout(folder)
    held = read_json(folder / "config.json")
    if not (folder / "summary.json").exists():
        raise ValueError(f"{folder} holds a run that is not finished; finish it, or leave it out")
    summary = read_json(folder / "summary.json")
    told = [name for name in ("steps", "parameters", "train_seconds", "wall_seconds") if name in summary]
    numbers = {name: float(v) for name, v in summary["metrics"].items() if isinstance(v, int | float)}
    names = {name: str(held[name]) for name in ("experiment", "data", "preset") if name in held}
    settings = {path: str(value) for path, value in _flat(held["config"])}
    metrics = numbers | {name: float(summary[name]) for name in told}
    return Finished(folder, names | settings, held["seed"], metrics, _curves(folder))


def grouped(runs: Sequence[Finished]) -> dict[str, list[Finished]]:
    """Runs that are equal but for the seed under one label, which holds what tells the groups apart.

    Raises `ValueError` for two runs of one seed, which would count double.
    """
    paths = {path for run in runs for path in run.names}
    apart = sorted(p for p in paths if len({run.names.get(p) for run in runs}) > 1)
    first = [p for p in ("experiment", "data", "preset") if p in apart]
    told = first + [p for p in apart if p not in first]
    groups: dict[str, list[Finished]] = {}
    for run in runs:
        parts = [run.names[p] if p in first else f"{p}={run.names[p]}" for p in told if p in run.names]
        groups.setdefault(" ".join(parts) or run.names.get("experiment", "runs"), []).append(run)
    for label, members in groups.items():
        seeds = [run.seed for run in members]
        if twice := [run for run in members if seeds.count(run.seed) > 1]:
            raise ValueError(f"{twice[0].folder} and {twice[1].folder} are one run ({label}, seed {twice[0].seed})")
    return groups


class Spread(NamedTuple):
    """Of one metric over seeds: how many, mean, and standard deviation of the sample (NaN of one run)."""

    count: int
    mean: float
    std: float

    def __str__(self) -> str:
        return f"{self.mean:.4g}" if self.count == 1 else f"{self.mean:.4g} ± {self.std:.2g}"


def spread(members: Sequence[Finished], metric: str) -> Spread:
    """Mean and standard deviation of a metric over the runs that have it; NaN where none has."""
    values = [run.metrics[metric] for run in members if metric in run.metrics]
    n = len(values)
    mean = math.fsum(values) / n if n else math.nan
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else math.nan
    return Spread(n, mean, std)


def shared_metrics(runs: Sequence[Finished], chosen: Sequence[str] = ()) -> list[str]:
    """The chosen metrics, or the `test/` ones that every run has; raises `ValueError` for one that no run has."""
    known = [name for run in runs for name in run.metrics]
    for name in chosen:
        check_name("metric", name, dict.fromkeys(known))
    common = [m for m in dict.fromkeys(known) if m.startswith("test/") and all(m in run.metrics for run in runs)]
    return list(chosen) or common


def table(groups: Mapping[str, Sequence[Finished]], metrics: Sequence[str]) -> str:
    """One line for each group: how many runs, then each metric as mean ± standard deviation."""
    rows = [["", "runs", *(m.removeprefix("test/") for m in metrics)]]
    rows += [[label, str(len(runs)), *(str(spread(runs, m)) for m in metrics)] for label, runs in groups.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def write_csv(path: Path, groups: Mapping[str, Sequence[Finished]]) -> None:
    """One line for each run: folder, group, seed, and every metric that any run has."""
    runs = [(label, run) for label, members in groups.items() for run in members]
    metrics = list(dict.fromkeys(name for _, run in runs for name in run.metrics))
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["folder", "group", "seed", *metrics])
        for label, run in runs:
            writer.writerow(
                [run.folder, label, run.seed, *(repr(run.metrics[m]) if m in run.metrics else "" for m in metrics)]
            )


def _flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """(path, value) of every leaf of nested settings."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        found += _flat(value, f"{above}{name}.") if isinstance(value, dict) else [(above + name, value)]
    return found


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What the stages of a run measured on the validation split; of two stages with one name, the last."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("*/metrics.jsonl"), key=lambda p: p.stat().st_mtime):
        own: dict[str, list[tuple[int, float]]] = {}
        for row in read_rows(path):
            for name, value in row.items():
                if name.startswith("validation/") and value is not None:
                    own.setdefault(name, []).append((int(row["step"]), value))
        found |= own
    return found
