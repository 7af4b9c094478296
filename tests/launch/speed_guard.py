"""The ratios that speed is guarded by, measured anew: each of two programs that take turns on this machine.

PYTHONPATH=. python tests/launch/speed_guard.py     # on a quiet machine; writes speed_guard.json
"""

import datetime
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax

from launch.speed.suite import cpu_name
from launch.speed.turns import compare

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).with_suffix(".json")
TURNS = 5


class Bound(NamedTuple):
    """How small a ratio may be."""

    kept: float
    """Of the stored one, on the same kind of processor."""
    floor: float
    """On any other, and where none is stored."""


BOUNDS = {
    "resnet20 train, times dlcore without oneDNN": Bound(0.8, 0.95),
    "resnet20 train, times Flax": Bound(0.8, 1.2),
    "classify on digits, engine over bare loop": Bound(0.93, 0.85),
}


def workload_ratios(seconds=1.0):
    """Medians over the turns of one convolutional workload against two peers."""
    rows = compare("resnet20", ["without", "flax"], seconds=seconds, turns=TURNS)
    (train,) = [row for row in rows if row["what"] == "train"]
    names = {"without": "dlcore without oneDNN", "flax": "Flax"}
    return {
        f"resnet20 train, times {name}": statistics.median(train["ratios"][peer]["seconds"])
        for peer, name in names.items()
    }


def engine_ratio():
    """What `launch.bench` says of the engine."""
    command = ["-m", "launch.bench", "--experiment=classify", "--data=digits", f"--turns={TURNS}"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    return {"classify on digits, engine over bare loop": ratio_of(done.stdout)}


def ratio_of(text):
    """The number in the last line of `launch.bench`."""
    return float(re.search(r"engine / bare loop: ([\d.]+)", text)[1])


def too_slow(measured, stored, machine):
    """What is wrong with the measured ratios, a line each, given what is stored and the processor's name."""
    same = stored["machine"] == machine
    for name, ratio in measured.items():
        kept = stored["ratios"].get(name) if same else None
        least = BOUNDS[name].floor if kept is None else BOUNDS[name].kept * kept
        if ratio < least:
            held = f"{kept:.2f} stored on {stored['date']}" if kept else "nothing stored for this processor"
            yield f"{name}: {ratio:.2f}, below {least:.2f} ({held})"


def record():
    """Measure all and write the file."""
    ratios = {**workload_ratios(), **engine_ratio()}
    now = datetime.datetime.now(datetime.UTC).date().isoformat()
    told = {"machine": cpu_name(), "date": now, "jax": jax.__version__, "ratios": ratios}
    STORED.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    record()
