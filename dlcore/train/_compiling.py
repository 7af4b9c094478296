"""Compiling in a thread of its own, while this one makes or reads the training state."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from dlcore.backend import on_cpu
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


def ahead(engine: Engine, pipeline: Pipeline, count: int, *, begins: bool) -> tuple[Engine, dict[int, Compiling]]:
    """The engine and the program of its first dispatch, of `count` steps, being compiled.

    So is what makes the state at the start, if it `begins` with one. On accelerators nothing is: there the compiler
    times algorithms, which other work would disturb. Nor is it where several processes take part: those agree on what
    lies where by the arrays that they hold.
    """
    if not on_cpu() or jax.process_count() > 1:
        return engine, {}
    if begins:
        started = compiling(engine.start, engine.rows)
        engine = engine._replace(start=lambda rows: started()[0](rows))
    feeds = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), pipeline.example())
    return engine, {count: compiling(engine.program, engine.like, dict(engine.zeros), engine.resident, feeds)}
