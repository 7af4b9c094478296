"""What the machine can do at most, measured."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp


def product_rate(seconds: float = 1.0, size: int = 1024, dtype: str = "float32", chained: int = 1) -> float:
    """Floating-point operations per second of a matrix product: the fastest of those that fit in `seconds`.

    `chained` products are one call, so that on a fast device the call itself does not count.
    """

    def product(a: jax.Array) -> jax.Array:
        return a @ a / size

    def chain(a: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, chained, lambda _, a: product(a), a) if chained > 1 else product(a)

    return 2 * chained * size**3 / least_seconds(jax.jit(chain), jnp.ones((size, size), dtype), seconds)


def memory_rate(seconds: float = 1.0, size: int = 2**28) -> float:
    """Bytes per second of reading `size` float32 numbers and writing as many: the fastest of those in `seconds`."""
    return 8 * size / least_seconds(jax.jit(lambda x: x + 1, donate_argnums=0), jnp.ones(size), seconds)


def least_seconds(function: Callable[[jax.Array], jax.Array], x: jax.Array, seconds: float) -> float:
    """Seconds of the fastest call among those that fit in `seconds`; each takes what the one before returned."""
    x = function(x).block_until_ready()
    least, end = float("inf"), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        x = function(x).block_until_ready()
        least = min(least, time.perf_counter() - began)
    return least
