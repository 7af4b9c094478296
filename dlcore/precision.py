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


ROWS = 4096
"""Rows that `row_products` adds up at once."""


def row_products(a: Float[Array, "n p"], b: Float[Array, "n q"]) -> Float[Array, "p q"]:
    """aᵀ b in full precision, for any number of rows.

    One product over ten million rows would add them up one after the other, and lose digits of a float32: here blocks
    of `ROWS` rows are products of their own, which are then added.
    """
    whole = len(a) // ROWS * ROWS
    parts = [matmul(a[whole:].T, b[whole:])]
    if whole:
        blocks = (x[:whole].reshape(-1, ROWS, x.shape[-1]) for x in (a, b))
        parts.append(jnp.einsum("krp,krq->kpq", *blocks, precision=jax.lax.Precision.HIGHEST).sum(0))
    return sum(parts)


def highest(function: Callable[P, R]) -> Callable[P, R]:
    """The function with every product inside it, also those of its callees and its gradient, in full precision."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return run
