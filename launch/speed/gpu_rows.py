"""A process that measures, and the end of its time."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from launch.speed.clock import ANSWER
from launch.speed.gpu_task import Task

ROOT = Path(__file__).parents[2]
COLD = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
"""Compile seconds are those of a first use."""
MEMORY = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
"""How much of the card a process takes, by its name now and before; JAX refuses both at once."""


def facts(module: str, task: Task, *, flags: str = "") -> Iterator[dict[str, Any]]:
    """What the process of a task tells, as it comes; it is ended at `task.until`.

    With a fact `first_step` comes how long after its start the process took it. The last fact says how it ended, if not
    well: `cut` or `failed`.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", module, task.text()],
        cwd=ROOT,
        env=environment(flags),
        text=True,
        stdout=subprocess.PIPE,
    )
    try:
        for line in until(process.stdout, task):
            told = json.loads(line)
            if told.pop("first_step", False):
                told.setdefault("ready_seconds", time.monotonic() - began)
            yield told
        if process.wait(timeout=max(task.left(), 1)):
            yield {"failed": f"exit code {process.returncode}"}
    except (queue.Empty, subprocess.TimeoutExpired):
        yield {"cut": f"after {time.monotonic() - began:.0f} s"}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def environment(flags: str) -> dict[str, str]:
    """Of the process: nearly the whole card unless the user said how much, no compile cache, and `flags` for XLA."""
    whole = {} if any(name in os.environ for name in MEMORY) else {MEMORY[0]: "0.92"}
    return os.environ | COLD | whole | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}


def until(lines: IO[str], task: Task) -> Iterator[str]:
    """The answers among the lines, until they end; raises `queue.Empty` when the task's time is over."""
    arrived: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in lines:
            arrived.put(line)
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := arrived.get(timeout=max(task.left(), 0.01))) is not None:
        if line.startswith(ANSWER):
            yield line.removeprefix(ANSWER)
