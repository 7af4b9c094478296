"""Whether a system keeps its promises on this machine: equal bits after interruptions, from its folder, from a file."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dlcore.train import export, stages
from dlcore.train._run_folder import read_json
from dlcore.train._system import Fit
from dlcore.train.run import Run
from dlcore.train.session import OpenRun

PARTS = 3
"""Parts of about equal length in which the second run is trained."""


class Check(NamedTuple):
    """One promise, whether it was kept, and what was found."""

    promise: str
    kept: bool
    found: str


class Interruption:
    """A request to stop that comes when a run asks for the `at`-th time, or never; it counts how often it was asked."""

    def __init__(self, at: int | None = None):
        self.at, self.asked = at, 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.at is not None and self.asked >= self.at


def verify(make: Callable[[Path], Run], folder: Path) -> Iterator[Check]:
    """Train a run whole and in parts, evaluate it again from its folder, export it and read it back.

    `make` builds the run of a folder, and is called anew after every interruption. The runs are `folder`/whole and
    `folder`/parts. Each promise is told as soon as it is known. Raises `ValueError` for a folder with such runs.
    """
    whole, parts = folder / "whole", folder / "parts"
    if whole.exists() or parts.exists():
        raise ValueError(f"{folder} holds runs already, which prove nothing new; pass another folder")
    never = Interruption()
    stages.execute(make(whole), never)
    expected = read_json(whole / "summary.json")
    yield Check("trains to the end", True, f"state_sha256 {expected['state_sha256'][:12]}")
    times = train_in_parts(make, parts, max(2, never.asked // PARTS))
    yield same_result(
        f"interrupted {times} times, it ends in the same bits", expected, read_json(parts / "summary.json")
    )
    if any(isinstance(stage, Fit) for stage in make(whole).system.stages.values()):
        yield from verify_fit(OpenRun(make(whole)), folder / f"model{export.SUFFIX}")


def train_in_parts(make: Callable[[Path], Run], folder: Path, every: int) -> int:
    """Train a run that is stopped each time it has asked `every` times; how often it was stopped."""
    for times in range(PARTS):
        if stages.execute(make(folder), Interruption(every)):
            return times
    stages.execute(make(folder))
    return PARTS


def verify_fit(run: OpenRun, path: Path) -> Iterator[Check]:
    """Evaluate the last fit of a run again, and read its export back."""
    found, told = run.evaluate("test"), run.result(run.stage).metrics
    shared = sorted(found.keys() & told.keys())
    yield _compared(
        "evaluated again from its folder, it has the same metrics",
        {name: told[name] for name in shared},
        {name: found[name] for name in shared},
    )
    export.write(run.run, path)
    back = OpenRun(*export.read(path))
    yield _compared("exported and read back, it has the same params", _leaves(run.params), _leaves(back.params))


def same_result(promise: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> Check:
    """Whether two summaries tell of the same state and metrics; readings of clocks may differ."""

    def kept(summary: Mapping[str, Any]) -> dict[str, Any]:
        metrics = {name: value for name, value in summary["metrics"].items() if "timing" not in name.split("/")}
        return {"state_sha256": summary["state_sha256"], **metrics}

    return _compared(promise, kept(expected), kept(found))


def _leaves(params: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def _compared(promise: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> Check:
    names = sorted(expected.keys() | found.keys())
    other = [name for name in names if not _same(expected.get(name), found.get(name))]
    if other:
        first = other[0]
        return Check(promise, False, f"{len(other)} of {len(names)} differ, such as {first}")
    return Check(promise, bool(names), f"{len(names)} compared")


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None or isinstance(a, str):
        return a is b or (isinstance(b, str) and a == b)
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
