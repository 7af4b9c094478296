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
from jaxtyping import Array

P, R = ParamSpec("P"), TypeVar("R")


def matmul(a: ArrayLike, b: ArrayLike) -> Array:
    """a @ b in full precision."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def highest(function: Callable[P, R]) -> Callable[P, R]:
    """The function with every product inside it, also those of its callees and its gradient, in full precision."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return run
