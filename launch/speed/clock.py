"""How a side takes the time, and how it tells what it found."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any


def timed(function: Callable[[int], None], seconds: float) -> dict[str, float]:
    """Seconds on the clock, and of processor time, of one call among as many as fit."""
    began, computed, count, step = time.perf_counter(), time.process_time(), 0, 1
    while count == 0 or time.perf_counter() - began < seconds:
        function(step)
        count, step = count + step, 2 * step
    return {"seconds": (time.perf_counter() - began) / count, "cpu_seconds": (time.process_time() - computed) / count}


def answer(told: Mapping[str, Any]) -> None:
    """One line of JSON."""
    print(ANSWER + json.dumps(told), flush=True)


ANSWER = "answer "
"""How such a line begins."""
