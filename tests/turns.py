"""Timing functions against each other on a noisy machine."""

import statistics
import time

import jax


def seconds(*functions, turns):
    """The median time of each, in turns; the first turn, which compiles, does not count."""
    times = [[] for _ in functions]
    for turn in range(turns + 1):
        for function, spent in zip(functions, times, strict=True):
            began = time.perf_counter()
            jax.block_until_ready(function())
            if turn:
                spent.append(time.perf_counter() - began)
    return [statistics.median(spent) for spent in times]
