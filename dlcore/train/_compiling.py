"""Compiling in a thread of its own, while this one makes or reads the training state."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from dlcore.data import Pipeline
from dlcore.train._engine import Engine

Compiling = Callable[[], tuple[Any, float]]
"""Waits for a program; gives it, and the seconds that it took."""


def compiling(program: Any, *args: Any) -> Compiling:
    """Trace and lower a jitted function here, as settings of a thread may decide, and compile it in another."""
    began = time.monotonic()
    lowered = program.lower(*args)

    def compiled() -> tuple[Any, float]:
        return lowered.compile(), time.monotonic() - began

    pool = ThreadPoolExecutor(1, "compiling")
    future = pool.submit(compiled)
    pool.shutdown(wait=False)
    return future.result


def first_programs(engine: Engine, pipeline: Pipeline, count: int) -> dict[int, Compiling]:
    """The program of the first dispatch, of `count` steps, being compiled; none where several processes take part.

    Those agree on what lies where by the arrays that they hold.
    """
    if jax.process_count() > 1:
        return {}
    feeds = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), pipeline.example())
    return {count: compiling(engine.program, engine.like, dict(engine.zeros), engine.resident, feeds)}
