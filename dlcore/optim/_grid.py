"""Grid search, a block of points at a time (lecture 4.3.2)."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dlcore.optim._minimize import Function, Iterate, Method, better_of, finite_or_worst, state
from dlcore.setting import Number, whole
from dlcore.types import Key


def grid(low: Sequence[Number], high: Sequence[Number], counts: Sequence[int], *, block: int = 65536) -> Method:
    """f at every point of a regular grid, ends included, `block` points per step at once; the last axis runs fastest.

    Runs ⌈Πcounts/block⌉ steps, see `blocks`, and is then "complete"; memory is that of f on one block. x0 counts as one
    more candidate. Points where f is not finite rank last. Raises `ValueError` for lengths that differ, counts below 1,
    or more points than int32 can number.
    """
    if not len(low) == len(high) == len(counts):
        raise ValueError(f"grid: low, high and counts must have one entry per axis, got {low}, {high}, {counts}")
    total, block = math.prod(whole(count, "grid: counts") for count in counts), whole(block, "grid: block")
    if total + block >= 2**31:
        raise ValueError(f"grid: {total} points are more than 2³¹ − block; use fewer per axis, or random_search")

    def points(k: Array, like: Array) -> Array:
        # The last block repeats the last point.
        index = jnp.minimum(k * block + jnp.arange(min(block, total), dtype=jnp.int32), total - 1)
        places = jnp.stack(jnp.unravel_index(index, tuple(counts)), -1)
        start, end = jnp.asarray(low, like.dtype), jnp.asarray(high, like.dtype)
        return start + (end - start) * (places / jnp.maximum(jnp.asarray(counts) - 1, 1)).astype(like.dtype)

    def init(f: Function, x0: Array, key: Key | None) -> Iterate:
        if x0.size != len(counts):
            raise ValueError(f"grid: x0 has {x0.size} entries and the grid {len(counts)} axes")
        return state(x0, f(x0), evaluations=1, memory=jnp.int32(0))

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        k = now.memory
        x = points(k, now.x)
        values = finite_or_worst(jax.vmap(f)(x))
        best = values.argmin()
        count = 1 + jnp.minimum((k + 1) * block, total)
        _, x, value = better_of(x[best], values[best], now)
        return state(x, value, evaluations=count, complete=count > total, memory=k + 1)

    return Method(init, step)


def blocks(counts: Sequence[int], block: int = 65536) -> int:
    """How many steps `grid` needs: ⌈Πcounts/block⌉."""
    return -(-math.prod(counts) // block)
