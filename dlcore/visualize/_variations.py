"""Scores and gradients of many variations of the same images, a block at a time: memory does not grow with the number.

A variation is a function `point(at, x, n) -> x'` of images [b, ...] and a number n, the same for every call; `at` holds
arrays. Blocks are a loop of the host over one compiled program: convolutions inside `lax.scan` are slow on CPU.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.setting import whole
from dlcore.types import Model, Params, State
from dlcore.visualize._score import Score, scored

Point: TypeAlias = Callable[[Any, Array, Array], Array]


def in_blocks(count: int, rows: int, block: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(numbers [c], counted [c]) for the variations 0 … count − 1 of `rows` images, at most `block` images at once.

    A block has one variation of all images at least. All blocks have one size; what fills up the last one is not
    counted: 0 among ones. Raises `ValueError` unless `count` and `block` are whole numbers of at least 1.

    >>> [(numbers.tolist(), counted.tolist()) for numbers, counted in in_blocks(3, 2, 4)]
    [([0, 1], [1.0, 1.0]), ([2, 2], [1.0, 0.0])]
    """
    count, block = whole(count, "variations of an image"), whole(block, "block")
    size = min(count, max(1, block // max(rows, 1)))
    for first in range(0, count, size):
        numbers = np.arange(first, first + size, dtype=np.int32)
        yield np.minimum(numbers, count - 1), (numbers < count).astype(np.float32)


def all_scores(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b *s"],
    target: Any,
    at: Any,
    count: int,
    point: Point,
    *,
    block: int,
    score: Score,
) -> Float[Array, "n b"]:
    """The scores of the variations 0 … count − 1 of all images."""
    found = [
        _scores(model, params, state, x, target, at, numbers, point=point, score=score)
        for numbers, _ in in_blocks(count, len(x), block)
    ]
    return jnp.concatenate(found)[:count]


@functools.partial(jax.jit, static_argnames=("model", "point", "score"))
def _scores(
    model: Model,
    params: Params,
    state: State,
    x: Array,
    target: Any,
    at: Any,
    numbers: Array,
    *,
    point: Point,
    score: Score,
) -> Array:
    points, targets = _spread(x, target, at, numbers, point)
    return scored(model, params, state, points, targets, score).reshape(len(numbers), len(x))


@functools.partial(jax.jit, static_argnames=("model", "score"))
def gradients(model: Model, params: Params, state: State, x: Array, target: Any, *, score: Score) -> Array:
    """∂ score / ∂ x of each image."""
    return jax.grad(lambda x: scored(model, params, state, x, target, score).sum())(x)


def added_gradients(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b *s"],
    target: Any,
    at: Any,
    weights: Float[np.ndarray, " n"],
    point: Point,
    *,
    block: int,
    score: Score,
) -> Float[Array, "b *s"]:
    """Σ_n w_n ∂ score / ∂ x at the variations of all images."""
    total = jnp.zeros_like(x)
    for numbers, counted in in_blocks(len(weights), len(x), block):
        weight = jnp.asarray(counted * weights[numbers], x.dtype)
        total += _weighted(model, params, state, x, target, at, numbers, weight, point=point, score=score)
    return total


@functools.partial(jax.jit, static_argnames=("model", "point", "score"))
def _weighted(
    model: Model,
    params: Params,
    state: State,
    x: Array,
    target: Any,
    at: Any,
    numbers: Array,
    weights: Array,
    *,
    point: Point,
    score: Score,
) -> Array:
    points, targets = _spread(x, target, at, numbers, point)
    found = gradients(model, params, state, points, targets, score=score)
    return jnp.tensordot(weights, found.reshape(len(numbers), *x.shape), 1, precision="highest")


def _spread(x: Array, target: Any, at: Any, numbers: Array, point: Point) -> tuple[Array, Any]:
    """All variations as one batch [n · b, ...], one after the other, and the targets beside them."""
    points = jax.vmap(lambda number: point(at, x, number))(numbers)
    tile = lambda leaf: jnp.tile(leaf, (len(numbers), *(1,) * (jnp.ndim(leaf) - 1)))  # noqa: E731
    return points.reshape(-1, *x.shape[1:]), jax.tree.map(tile, target)
