"""`--suite=recipes`: the speed recipes of `classify`, each over its registered seeds, timed in three ways.

Training alone; a process from its start to the result of the test with a warm compile cache; and with an empty one.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlcore.lookup import check_name
from dlcore.report import figures
from dlcore.train.run import experiment_module

ROOT = Path(__file__).parents[2]
TINY = ("widths=4,6", "train.batch_size=64", "train.steps=8", "train.log_every=4")
"""Settings by which a CPU tries a recipe out."""

Summary = Mapping[str, Any]


def recipes(
    names: Sequence[str],
    *,
    folder: Path,
    tiny: bool,
    budget: float,
    turns: int,
    data: str | None = None,
    data_dir: str | None = None,
) -> None:
    """Train the named recipes, or all, with the first `turns` registered seeds, and write `recipes.json` as they end.

    The first seed is trained in a cold process, then all in warm ones. What would begin after `budget` seconds is left
    out, and said. Raises `ValueError` for an unknown recipe, and with the error of a training that fails.
    """
    seeds, began = experiment_module("classify").SEEDS, time.monotonic()
    for name in names:
        check_name("recipe", name, seeds)
    what = ["--experiment=classify", f"--data={data or ('digits' if tiny else 'fashion_mnist')}"]
    what += [f"--data_dir={data_dir}"] * bool(data_dir) + [f"--set={setting}" for setting in TINY if tiny]
    found: dict[str, Any] = {"tiny": tiny, "recipes": {}}
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or seeds:
        with tempfile.TemporaryDirectory() as place:
            for seed, start in [(seeds[name][0], "cold"), *((seed, "warm") for seed in seeds[name][:turns])]:
                if time.monotonic() - began > budget:
                    print(f"{name} seed {seed}, {start}: left out, the budget of {budget:.0f} s is spent", flush=True)
                    continue
                told = trained([*what, f"--preset={name}", f"--seed={seed}"], Path(place), f"{start}-{seed}")
                found["recipes"].setdefault(name, []).append({"start": start, **told})
                figures.write_bytes(folder / "recipes.json", json.dumps(found, indent=1).encode())
        if name in found["recipes"]:
            print("\n".join(lines(name, found["recipes"][name])), flush=True)
    print(f"wrote {folder / 'recipes.json'} after {time.monotonic() - began:.0f} s", flush=True)


def trained(what: Sequence[str], place: Path, run: str) -> dict[str, Any]:
    """The summary of a training in a process of its own, all of which use the compile cache in `place`."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(place / "cache")}
    command = [sys.executable, "-m", "launch.train", *what, f"--workdir={place / run}"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(what)}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    told = json.loads((place / run / "summary.json").read_text())
    kept = ("seed", "steps", "train_seconds", "process_seconds", "programs", "state_sha256", "images_per_second")
    accuracy = {"accuracy": told["metrics"]["test/accuracy"], "whole_seconds": time.monotonic() - began}
    return {name: told[name] for name in kept} | accuracy


def lines(name: str, runs: Sequence[Summary]) -> Iterator[str]:
    """A recipe in words: accuracy over the seeds, and the three times."""
    cold, warm = ([run for run in runs if run["start"] == start] for start in ("cold", "warm"))
    counted = warm or cold
    accuracies = [run["accuracy"] for run in counted]
    spread = f" ± {statistics.stdev(accuracies):.4f}" if len(accuracies) > 1 else ""
    training = statistics.median(run["train_seconds"] for run in counted)
    yield f"{name}  accuracy {statistics.mean(accuracies):.4f}{spread} over {len(accuracies)} seeds"
    times = {"warm": warm, "cold": cold}
    told = [
        f"{start} process {statistics.median(r['process_seconds'] for r in rs):.1f} s"
        for start, rs in times.items()
        if rs
    ]
    yield f"{'':<9}training {training:.2f} s, {', '.join(told)}"
    twice = [run["state_sha256"] for run in runs if run["seed"] == runs[0]["seed"]]
    if len(twice) > 1:
        same = "equal to the bit" if len(set(twice)) == 1 else "NOT equal to the bit"
        yield f"{'':<9}seed {runs[0]['seed']} twice: {same}"
