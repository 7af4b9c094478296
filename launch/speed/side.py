"""The process of one side: opens a workload, says what it is, and computes when it is told to.

Reads lines `WHAT SECONDS` and answers each with one of JSON; started by `turns`.
"""

import importlib
import sys
import time
from pathlib import Path

from dlcore.parallel import backend
from launch.speed.clock import answer, timed
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


if __name__ == "__main__":
    backend.protect()
    main(*sys.argv[1:])
