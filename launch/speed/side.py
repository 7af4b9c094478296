"""The process of one side: opens a workload, says what it is, and computes when it is told to.

Reads lines `WHAT SECONDS` and answers each with one of JSON; started by `turns`.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dlcore.parallel import backend
from launch.speed.workload import Workload


def main(side: str, name: str, weights: str, images: str) -> None:
    """Answer until the input ends."""
    began = time.monotonic()
    opened: Workload = importlib.import_module(f"launch.speed.{side}_side").open_workload(
        name, Path(weights), int(images)
    )
    fixed = {"images": opened.images, "loss": opened.loss, "parameters": opened.parameters, **opened.facts}
    answer({**fixed, "does": sorted(opened.does()), "start_seconds": time.monotonic() - began})
    for line in sys.stdin:
        what, seconds = line.split()
        answer(timed(opened.does()[what], float(seconds)))


def timed(function: Callable[[int], None], seconds: float) -> dict[str, float]:
    """Seconds on the clock, and of processor time, of one call among as many as fit."""
    began, computed, count, step = time.perf_counter(), time.process_time(), 0, 1
    while count == 0 or time.perf_counter() - began < seconds:
        function(step)
        count, step = count + step, 2 * step
    return {"seconds": (time.perf_counter() - began) / count, "cpu_seconds": (time.process_time() - computed) / count}


def answer(told: dict) -> None:
    """One line of JSON."""
    print("answer " + json.dumps(told), flush=True)


if __name__ == "__main__":
    backend.protect()
    main(*sys.argv[1:])
