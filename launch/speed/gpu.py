"""`--suite=gpu`: rows in the order of their worth, each in a process of its own, until the seconds are spent.

Every fact goes into `gpu.json` as it comes, so that a run that is cut short keeps what it has. This process leaves the
card alone: its memory belongs to the row.
"""

import importlib.util
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dlcore.lookup import check_name
from dlcore.report import comparison, figures
from launch.speed.gpu_cases import CASES, DTYPES
from launch.speed.gpu_lines import heading, lines
from launch.speed.gpu_rows import facts
from launch.speed.gpu_task import Task

LEAST = 15.0
"""Seconds below which a part is not begun."""
DETERMINISM = "--xla_gpu_exclude_nondeterministic_ops=true"
PARTS = {"train": "launch.speed.gpu_side", "deterministic": "launch.speed.gpu_side", "torch": "launch.speed.torch_gpu"}
"""Programs, and the modules that run them."""


class Part(NamedTuple):
    """A part of the row of a workload in a dtype: what one process measures."""

    program: str
    workload: str
    dtype: str


def plan(workloads: Sequence[str], torch: Sequence[str]) -> list[Part]:
    """The parts in the order of their worth: bfloat16 beside PyTorch, determinism, float32, and that beside PyTorch.

    `torch` are the workloads that PyTorch has.
    """
    half, single = DTYPES
    parts = []
    for name in workloads:
        parts += [Part("train", name, half)] + [Part("torch", name, half)] * (name in torch)
    repeatable = [Part("deterministic", name, half) for name in ("cnn", "resnet50") if name in workloads]
    parts += repeatable[:1] + [Part("train", name, single) for name in workloads] + repeatable[1:]
    return parts + [Part("torch", name, single) for name in workloads if name in torch]


class Record:
    """What was found so far: printed, and kept in a file."""

    def __init__(self, folder: Path, *, tiny: bool) -> None:
        self.path, self.began = folder / "gpu.json", time.time()
        self.found: dict[str, Any] = {"tiny": tiny, "rows": [], "left_out": []}
        folder.mkdir(parents=True, exist_ok=True)

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.found["seconds"] = time.time() - self.began
        figures.write_bytes(self.path, json.dumps(self.found, indent=1).encode())

    def row(self, part: Part) -> dict[str, Any]:
        """The row that a part belongs to."""
        for row in self.found["rows"]:
            if (row["workload"], row["dtype"]) == (part.workload, part.dtype):
                return row
        self.found["rows"].append({"workload": part.workload, "dtype": part.dtype})
        return self.found["rows"][-1]

    def leave_out(self, part: Part, why: str) -> None:
        """A part that is not measured, and why."""
        self.found["left_out"].append({**part._asdict(), "why": why})
        print(f"{part.workload:<10} {part.dtype:<8} {part.program}: left out, {why}", flush=True)
        self.save()


def gpu(
    workloads: Sequence[str], *, folder: Path, tiny: bool, budget: float, row_budget: float, seconds: float
) -> None:
    """Measure the named workloads, or all, in at most `budget` seconds, each part in at most `row_budget`.

    Raises `ValueError` for an unknown workload, and on a CPU unless `tiny`.
    """
    for name in workloads:
        check_name("workload", name, CASES)
    end, record = time.time() + budget, Record(folder, tiny=tiny)
    like = Task("roof", tiny=tiny, seconds=seconds)
    find_roof(record, like._replace(until=min(end, time.time() + row_budget)))
    with tempfile.TemporaryDirectory() as place:
        for part in plan(workloads or list(CASES), torch_workloads()):
            left = min(end - time.time(), row_budget)
            if left < LEAST:
                record.leave_out(part, f"the budget of {budget:.0f} s is spent")
                continue
            weights = str(Path(place) / f"{part.workload}-{part.dtype}.npz")
            measure(record, part, like._replace(**part._asdict(), weights=weights, until=time.time() + left))
    draw(record.found, folder)
    print(f"wrote {record.path} after {record.found['seconds']:.0f} s", flush=True)


def torch_workloads() -> list[str]:
    """The workloads that PyTorch has; none where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return []
    from launch.speed.torch_side import NETWORKS

    return [name for name in CASES if name in NETWORKS]


def find_roof(record: Record, task: Task) -> None:
    """What the card can do at most; raises `ValueError` where there is none."""
    for told in facts(PARTS["train"], task):
        record.found |= told
        if told.get("platform") == "cpu" and not task.tiny:
            raise ValueError("--suite=gpu measures a GPU, and JAX finds none here; --tiny tries the suite on a CPU")
        record.save()
    if "bytes_per_second" not in record.found:
        raise ValueError(f"the roof was not found: {record.found.get('cut', 'its process ended')}")
    print(heading(record.found), flush=True)


def measure(record: Record, part: Part, task: Task) -> None:
    """Run a part, keep every fact of it, and print its lines."""
    row = record.row(part)
    if part.program == "torch":
        if not row.get("images"):
            return record.leave_out(part, "dlcore's own part found no batch")
        task = task._replace(images=row["images"])
    options = {"flags": DETERMINISM} if part.program == "deterministic" else {}
    kept = row if part.program == "train" else row.setdefault(part.program, {})
    runs = range(2 if part.program == "deterministic" else 1)  # the second process compiles anew
    for told in (told for _ in runs for told in facts(PARTS[part.program], task, **options)):
        for name, value in told.items():
            kept[name] = [*kept.get(name, []), *value] if isinstance(value, list) else value
        record.save()
    print("\n".join(lines(row, part.program, record.found["product_flops_per_second"])), flush=True)
    return None


def shown(found: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """What the figure shows: quantity, row, value."""
    roof = found["product_flops_per_second"]
    for row in found["rows"]:
        name = f"{row['workload']} {row['dtype']}"
        if "seconds" in row:
            yield "fraction of the product", name, row["product_flops"] / row["seconds"] / roof[row["dtype"]]
        if "seconds" in row and "compiled_seconds" in row.get("torch", {}):
            yield "times torch.compile", name, row["torch"]["compiled_seconds"] / row["seconds"]


def draw(found: dict[str, Any], folder: Path) -> None:
    """A figure of the fractions and ratios, if there are any."""
    drawn: dict[str, dict[str, list[float]]] = {}
    for quantity, name, value in shown(found):
        drawn.setdefault(quantity, {})[name] = [value]
    if drawn:
        figures.save(comparison.dots(drawn), folder / "gpu.png")
