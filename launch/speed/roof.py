"""What the machine can do at most, measured."""

import time

import jax
import jax.numpy as jnp


def product_rate(seconds: float = 1.0, size: int = 1024, dtype: str = "float32") -> float:
    """Floating-point operations per second of a matrix product: the fastest of those that fit in `seconds`."""
    product = jax.jit(lambda a: a @ a / size)
    x = product(jnp.ones((size, size), dtype)).block_until_ready()
    least, end = float("inf"), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        x = product(x).block_until_ready()
        least = min(least, time.perf_counter() - began)
    return 2 * size**3 / least
