"""The rule of precision: it matters where hardware rounds the factors of products (TF32 on GPUs, bfloat16 on TPUs).

Networks run in JAX's default precision (`jax_default_matmul_precision`). What a number is claimed of does not:
likelihoods, log-determinants, inverses and the 1×1 convolutions of flows, linear algebra (least squares, curvature,
Newton, CMA, Lanczos, principal components), distances and statistics ask for `jax.lax.Precision.HIGHEST`, products in
full float32. That holds for the functions that they are given, too: a loss whose curvature is wanted, an objective that
is minimised, a log-density that is fitted. On CPU both are the same.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

P, R = ParamSpec("P"), TypeVar("R")


def matmul(a: ArrayLike, b: ArrayLike) -> Array:
    """a @ b in full precision."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


ROWS, MANY = 256, 8192
"""Rows that are added up at once where there are many, and how many are many."""


def add_rows(x: Float[Array, "n c"]) -> Float[Array, " c"]:
    """Σ over the rows as products with ones, which on CPU are faster than XLA's own loop.

    A product adds its terms one after the other: over ten million rows of equal numbers a float32 loses a tenth of
    them. There blocks of rows are added up, and then their sums.
    """
    while len(x) > MANY:
        count = len(x) // ROWS
        # Side by side, so that it is one product: block i has the rows i, i + count, i + 2·count, …
        sums = matmul(jnp.ones(ROWS, x.dtype), x[: count * ROWS].reshape(ROWS, -1)).reshape(count, -1)
        x = jnp.concatenate([sums, x[count * ROWS :]]) if len(x) % ROWS else sums
    return matmul(jnp.ones(len(x), x.dtype), x)


def row_products(a: Float[Array, "n p"], b: Float[Array, "n q"]) -> Float[Array, "p q"]:
    """aᵀ b in full precision, for any number of rows, block by block as in `add_rows`."""
    if len(a) <= MANY:
        return matmul(a.T, b)
    whole = len(a) // ROWS * ROWS
    rest = matmul(a[whole:].T, b[whole:])
    blocks = (x[:whole].reshape(-1, ROWS, x.shape[-1]) for x in (a, b))
    sums = jnp.einsum("krp,krq->kpq", *blocks, precision=jax.lax.Precision.HIGHEST)
    return rest + add_rows(sums.reshape(len(sums), -1)).reshape(rest.shape)


def highest(function: Callable[P, R]) -> Callable[P, R]:
    """The function with every product inside it, also those of its callees and its gradient, in full precision."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return run
