"""How far to go along a direction (lecture 5.9)."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dlcore.precision import matmul
from dlcore.setting import Number, known, number, whole


class Found(NamedTuple):
    """A step length t, 0 where none was found, and the evaluations of f that it took."""

    step: Array
    evaluations: Array


Search: TypeAlias = Callable[..., Found]
"""`(f, x, value, gradient, direction) -> Found`, for a direction d of descent, gᵀd < 0."""


def backtracking(*, first: Number = 1.0, shrink: Number = 0.5, c1: Number = 1e-4, most: int = 40) -> Search:
    """The first t of `first`, `first`·`shrink`, … with f(x + td) ≤ f(x) + c₁ t gᵀd (Armijo 1966).

    A point where f is not finite is too far. Raises `ValueError` unless 0 < shrink, c₁ < 1 and first > 0.
    """
    for value, name, within in ((first, "first", "(0, ∞)"), (shrink, "shrink", "(0, 1)"), (c1, "c1", "(0, 1)")):
        number(value, f"backtracking: {name}", within)
    whole(most, "backtracking: most")

    def search(f: Callable[[Array], Array], x: Array, value: Array, gradient: Array, direction: Array) -> Found:
        slope = matmul(gradient, direction)

        def fails(t: Array) -> Array:
            # Written so that NaN fails.
            return ~(f(x + t * direction) <= value + c1 * t * slope)

        def body(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            t, count, _ = carry
            return t * shrink, count + 1, fails(t * shrink)

        def going(carry: tuple[Array, Array, Array]) -> Array:
            return carry[2] & (carry[1] < most)

        start = jnp.asarray(first, x.dtype)
        t, count, failed = jax.lax.while_loop(going, body, (start, jnp.int32(1), fails(start)))
        return Found(jnp.where(failed, 0, t), count)

    return search


def strong_wolfe(*, first: Number = 1.0, c1: Number = 1e-4, c2: Number = 0.9, most: int = 40) -> Search:
    """A t with f(x + td) ≤ f(x) + c₁ t gᵀd and |∇f(x + td)ᵀd| ≤ c₂ |gᵀd| (Nocedal & Wright 2006, eq. 3.7).

    By doubling, then bisection. The lower end always has Armijo's decrease and a slope below c₂gᵀd, the upper end is
    above Armijo's line or has a positive slope: in between lies a point of slope c₁gᵀd that meets both conditions.
    When `most` evaluations do not find one, the lower end serves. Raises `ValueError` unless 0 < c₁ < c₂ < 1.
    """
    whole(most, "strong_wolfe: most")
    values = [known(number(value, "strong_wolfe: " + name, "(0, 1)")) for value, name in ((c1, "c1"), (c2, "c2"))]
    values = [value for value in values if value is not None]
    if not all(a < b for a, b in itertools.pairwise((0, *values, 1))):
        raise ValueError(f"strong_wolfe: 0 < c1 < c2 < 1, got c1={c1} and c2={c2}; try 1e-4 and 0.9")

    def search(f: Callable[[Array], Array], x: Array, value: Array, gradient: Array, direction: Array) -> Found:
        slope = matmul(gradient, direction)
        along = jax.value_and_grad(lambda t: f(x + t * direction))

        def body(carry: Any) -> Any:
            low, high, t, count, _ = carry
            reached, rise = along(t)
            too_far = ~(reached <= value + c1 * t * slope) | ~(rise <= c2 * jnp.abs(slope))
            too_near = ~too_far & (rise < c2 * slope)
            low, high = jnp.where(too_near, t, low), jnp.where(too_far, t, high)
            after = jnp.where(jnp.isinf(high), 2 * t, (low + high) / 2)
            done = ~too_far & ~too_near
            return low, high, jnp.where(done, t, after), count + 1, done

        def going(carry: Any) -> Array:
            return ~carry[-1] & (carry[-2] < most)

        low, high, t = (jnp.asarray(number, x.dtype) for number in (0.0, math.inf, first))
        low, _, t, count, done = jax.lax.while_loop(going, body, (low, high, t, jnp.int32(0), jnp.bool_(False)))
        return Found(jnp.where(done, t, low), count)

    return search
