"""What the pages show as proof: runs of the experiments, and the last results of the tests."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
OUTCOMES = ROOT / ".cache" / "outcomes.json"


def sources() -> str:
    """A digest of all that runs depend on."""
    digest = hashlib.sha256()
    for path in sorted(p for room in ("dlcore", "experiments") for p in (ROOT / room).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def forget_others(folder: Path) -> None:
    """Empty a folder of results that other sources made."""
    stamp, now = folder / "sources", sources()
    if folder.exists() and (not stamp.exists() or stamp.read_text() != now):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(now)


def flags(run: str) -> list[str]:
    """The flags of a run, which is an experiment and flags, "vae --set=latent=2": smoke on digits unless it says."""
    name, *given = run.split()
    default = [flag for flag in ("--preset=smoke", "--data=digits") if not any(flag[:6] == one[:6] for one in given)]
    return [f"--experiment={name}", *default, *given]


def command(run: str) -> str:
    """The command of a run."""
    return " ".join(["./launch/local.sh train", *flags(run)])


def place(folder: Path, run: str) -> Path:
    """The folder of a run."""
    return folder / re.sub(r"[^\w.]+", "-", run)


def train_all(runs: list[str], folder: Path) -> None:
    """Train all of them, two at a time; one that is finished stays. Raises where one fails."""

    def train(name: str) -> None:
        print(f"docs: {command(name)}", flush=True)
        arguments = [sys.executable, "-m", "launch.train", *flags(name), f"--workdir={place(folder, name)}"]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"docs: {command(name)} failed\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")

    waiting = [name for name in runs if not (place(folder, name) / "report.html").exists()]  # written last
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(train, waiting))


def picture(folder: Path, run: str, figure: str) -> Path:
    """The file of a figure of a run. Raises `FileNotFoundError`, with what there is, where it was not drawn."""
    drawn = {path.stem: path for path in pictures(folder, run)}
    if figure not in drawn:
        raise FileNotFoundError(f"the run of {run} has no figure {figure}; there are {', '.join(sorted(drawn))}")
    return drawn[figure]


def pictures(folder: Path, run: str) -> list[Path]:
    """All figures of a run; the curves of its training come last."""
    found = [path for kind in ("figures", "samples") for path in sorted(place(folder, run).glob(f"*/{kind}/*.png"))]
    return sorted(found, key=lambda path: path.stem == "curves")


class Outcome(NamedTuple):
    """How the cases of a test ended when they last ran."""

    passed: int
    failed: int
    skipped: int
    seconds: float
    date: str
    commit: str


def outcomes() -> dict[str, Outcome]:
    """The last results by FILE::FUNCTION, from test files that have not changed since."""
    if not OUTCOMES.exists():
        return {}
    found: dict[str, list[list]] = {}
    for file, entry in json.loads(OUTCOMES.read_text(encoding="utf-8")).items():
        path = ROOT / file
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == entry["digest"]:
            for case, result in entry["cases"].items():
                found.setdefault(f"{file}::{case.split('[')[0]}", []).append(result)
    return {test: gathered(cases) for test, cases in found.items()}


def gathered(cases: list[list]) -> Outcome:
    """The cases of one test, each (outcome, seconds, date, commit), as one."""
    counts = [sum(case[0] == kind for case in cases) for kind in ("passed", "failed", "skipped")]
    last = max(cases, key=lambda case: case[2])
    return Outcome(*counts, sum(case[1] for case in cases), last[2], last[3])


def prove(tests: list[str]) -> None:
    """Run those tests of the default suite that have no result yet; `tests/outcomes.py` keeps it."""
    known = outcomes()
    waiting = [test for test in tests if test not in known]
    if waiting:
        print(f"docs: {len(waiting)} tests have no result yet and run now", flush=True)
        arguments = ["-m", "pytest", "-n", str(os.cpu_count() or 1), "--dist", "worksteal", *waiting]
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False)
