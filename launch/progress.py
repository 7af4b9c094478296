"""What takes long says how far it is."""

import time
from collections.abc import Callable

import numpy as np

from dlcore.data.source import Rows, Split
from dlcore.parallel import processes
from dlcore.train.record import clock

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
