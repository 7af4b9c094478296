"""A study of a system: computed once, cell by cell if it has cells, and kept in a folder of its own."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlcore.parallel import processes
from dlcore.report import panel
from dlcore.train._run_folder import read_json, write_json
from dlcore.train._state import sha256
from dlcore.train._system import Result, Results, Study
from dlcore.train.progress import say
from dlcore.train.run import Run
from dlcore.tree import named_leaves


def run_study(run: Run, name: str, stage: Study, results: Results, stop: Callable[[], bool]) -> bool:
    """Compute what is not there yet, and write `result.json`; False if `stop()` came between two cells.

    Of several processes the main one computes.
    """
    if not processes.is_main():
        return True
    folder, began = run.folder / name, time.monotonic()
    folder.mkdir(exist_ok=True)
    if stage.cells:
        for i, cell in enumerate(stage.cells):
            path = folder / "cells" / f"{cell}.npz"
            if not path.exists():
                if stop():
                    say(f"stopped with {i} of {len(stage.cells)} parts of {name}; run the same command to go on")
                    return False
                say(f"{name}: {cell} ({i + 1} of {len(stage.cells)})")
                found = stage.compute(run.key(name), run.whole(), results, cell)
                if found.panels:
                    panel.save(found.panels, folder / "cells" / cell)
                write_arrays(path, found.arrays)  # last: where there is this file, the cell is done
        arrays = {cell: read_arrays(folder / "cells" / f"{cell}.npz") for cell in stage.cells}
        drawn = {cell: panel.load(folder / "cells" / cell) for cell in stage.cells}
        panels = {f"{cell}_{title}": one for cell, titled in drawn.items() for title, one in titled.items()}
    else:
        say(f"{name}: computing")
        found = stage.compute(run.key(name), run.whole(), results)
        arrays, panels = found.arrays, found.panels
    write_arrays(folder / "arrays.npz", arrays)
    arrays = read_arrays(folder / "arrays.npz")
    panel.save({**panels, **stage.panels(arrays)}, folder)
    told = {k: v if isinstance(v, str) else float(v) for k, v in stage.metrics(arrays).items()}
    seconds = time.monotonic() - began
    result = {"kind": "study", "seconds": seconds, "sha256": digest(arrays), "metrics": told}
    write_json(folder / "result.json", result)
    return True


def digest(arrays: Mapping[str, Any]) -> str:
    """The digest of a study's arrays without clock readings."""
    return sha256({name: leaf for name, leaf in _flat(arrays).items() if "timing" not in name.split("/")})


def study_result(run: Run, name: str) -> Result:
    """The result of a finished study, opened."""
    folder = run.folder / name
    return Result(read_json(folder / "result.json")["metrics"], arrays=read_arrays(folder / "arrays.npz"))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a nested dict of arrays, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **{name: np.asarray(leaf) for name, leaf in _flat(arrays).items()})
    temporary.replace(path)


def read_arrays(path: Path) -> dict[str, Any]:
    """The nested dict of arrays of a file."""
    tree: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as kept:
        for name in kept.files:
            *branches, leaf = name.split("/")
            node = tree
            for branch in branches:
                node = node.setdefault(branch, {})
            node[leaf] = kept[name]
    return tree


def _flat(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return dict(named_leaves(dict(arrays)))
