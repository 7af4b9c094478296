"""What takes long says how far it is."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from dlcore.data import Rows, Split
from dlcore.parallel import processes
from dlcore.train._record import clock

EVERY = 10.0
"""Seconds between two lines."""


def say(text: str) -> None:
    """Print, on the main process."""
    if processes.is_main():
        print(text, flush=True)


def ticker(what: str, total: int) -> Callable[[int], None]:
    """A function to call with how many of `total` are done; prints a line with the time left now and then.

    The time counts from the last call with 0.
    """
    began = told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal began, told
        now = time.monotonic()
        if done == 0:
            began = told = now
        elif now - told >= EVERY:
            told = now
            say(f"{what}: {done:,} of {total:,}  ETA {clock((now - began) / done * (total - done))}")

    return tell


def announced(split: Split, what: str) -> Split:
    """The same split; reading it in order says how far it is."""
    tell = ticker(what, split.size)

    def read(rows: np.ndarray) -> Rows:
        tell(int(rows[0]))
        return split.read(rows)

    return split._replace(read=read)


def attempt(what: str, action: Callable[[], Any], notes: dict[str, str]) -> Any:
    """What `action` returns; or None, when it fails: then one line on stderr and in `notes` says so.

    For what stands beside a result and must not cost it.
    """
    try:
        return action()
    except Exception as error:
        if os.environ.get("DLCORE_TRACEBACK"):
            traceback.print_exc()
        notes[what] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"note: {what} failed, the run goes on without ({notes[what]})", file=sys.stderr, flush=True)
        return None
