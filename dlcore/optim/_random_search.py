"""Random search (lecture 4.3.2)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dlcore.optim._minimize import Function, Iterate, Method, better_of, finite_or_worst, state
from dlcore.setting import Number, known, number, whole
from dlcore.types import Key


def random_search(low: Sequence[Number], high: Sequence[Number], *, block: int = 256) -> Method:
    """f at `block` points per step drawn uniformly from a box, the best kept (Bergstra & Bengio 2012).

    Of N points one lies in the best share q of the box with probability 1 − (1 − q)ᴺ, in any dimension. Points where f
    is not finite rank last. Raises `ValueError` for an empty box, or without a key.
    """
    whole(block, "random_search: block")
    ends = [[known(number(end, "random_search: an end of the box")) for end in side] for side in (low, high)]
    if len(low) != len(high) or not all(a is None or b is None or a < b for a, b in zip(*ends, strict=False)):
        raise ValueError(f"random_search: low < high on every axis, got {low}, {high}")

    def init(f: Function, x0: Array, key: Key | None) -> Iterate:
        if key is None:
            raise ValueError("random_search draws points; pass key=jax.random.key(seed)")
        return state(x0, f(x0), evaluations=1)

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        box = jnp.asarray(low, now.x.dtype), jnp.asarray(high, now.x.dtype)
        x = jax.random.uniform(key, (block, now.x.size), now.x.dtype, *box)
        values = finite_or_worst(jax.vmap(f)(x))
        best = values.argmin()
        _, x, value = better_of(x[best], values[best], now)
        return state(x, value, evaluations=now.evaluations + block)

    return Method(init, step)
