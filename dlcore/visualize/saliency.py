"""Attributions by gradients: saliency, SmoothGrad, input × gradient, integrated gradients (lecture 17).

Maps have the shape of the images, one number per pixel and channel; a row is that image alone, whatever stands beside
it. Scores are logits unless `score` says otherwise.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.operands import shape_of
from dlcore.setting import Number
from dlcore.types import Key, Model, Params, State
from dlcore.visualize.blocks import in_blocks
from dlcore.visualize.score import Score, checked, logit


def gradient(
    model: Model, params: Params, state: State, x: Float[Array, "b *s"], target: Any, *, score: Score = logit
) -> Float[Array, "b *s"]:
    """∂ score / ∂ x of each image, with its sign.

    `target` is the class of each image [b], or what else `score(outputs, target) -> [b]` takes. Raises `ValueError` for
    images that are no floats, and for a target that is not one entry per image.
    """
    checked("gradient", x, target)
    return _gradient(model, params, state, x, target, score=score)


@functools.partial(jax.jit, static_argnames=("model", "score"))
def _gradient(model: Model, params: Params, state: State, x: Array, target: Any, *, score: Score) -> Array:
    def total(x: Array) -> Array:
        return scored(model, params, state, x, target, score).sum()

    return jax.grad(total)(x)


def scored(model: Model, params: Params, state: State, x: Array, target: Any, score: Score) -> Float[Array, " b"]:
    """The scores of images as in inference. Raises `ValueError` unless there is one for each."""
    found = score(model.apply(params, state, x)[0], target)
    if shape_of(found) != (len(x),):
        raise ValueError(f"score must give one number for each of {len(x)} images, got shape {shape_of(found)}")
    return found


def saliency(
    model: Model, params: Params, state: State, x: Float[Array, "b *s"], target: Any, *, score: Score = logit
) -> Float[Array, "b *s"]:
    """|∂ score / ∂ x|: how much each pixel would change the score (Simonyan et al. 2014; arguments as in `gradient`).

    >>> from dlcore.nn.dense import Dense
    >>> params = {"kernel": jnp.array([[1.0, 3.0], [2.0, -4.0]])}
    >>> saliency(Dense(2, bias=False), params, {}, jnp.full((1, 2), 50.0), jnp.array([1]))
    Array([[3., 4.]], dtype=float32)
    """
    return jnp.abs(gradient(model, params, state, x, target, score=score))


def input_times_gradient(
    model: Model, params: Params, state: State, x: Float[Array, "b *s"], target: Any, *, score: Score = logit
) -> Float[Array, "b *s"]:
    """x ⊙ ∂ score / ∂ x: of a network that is linear near x and has no bias, the share of each pixel in the score."""
    return x * gradient(model, params, state, x, target, score=score)


def smooth_grad(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b *s"],
    target: Any,
    *,
    key: Key,
    std: Number,
    samples: int = 32,
    block: int = 64,
    score: Score = logit,
) -> Float[Array, "b *s"]:
    """E[∂ score / ∂ x at x + σ ε], ε ~ N(0, I), with its sign, from so many samples (Smilkov et al. 2017).

    `std` is σ in units of x; the paper takes 0.1 to 0.2 of the range of the pixels. Sample j is drawn from the key
    folded with j, and is the same for all images. At most `block` images are evaluated at once, see `in_blocks`.
    """
    checked("smooth_grad", x, target)
    at = {"key": key, "std": std}
    weigh = lambda numbers, counted: counted / samples  # noqa: E731
    return _added(model, params, state, x, target, at, samples, weigh, _noisy, block=block, score=score)


def _noisy(at: Any, x: Array, number: Array) -> Array:
    noise = jax.random.normal(jax.random.fold_in(at["key"], number), x.shape[1:], x.dtype)
    return x + jnp.asarray(at["std"], x.dtype) * noise


def integrated_gradients(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b *s"],
    target: Any,
    *,
    baseline: Number | Float[Array, "..."] = 0.0,
    steps: int = 50,
    block: int = 64,
    score: Score = logit,
) -> Float[Array, "b *s"]:
    """(x − x′) ⊙ ∫₀¹ ∂ score / ∂ x at x′ + a (x − x′) da by Gauss–Legendre quadrature (Sundararajan et al. 2017).

    Complete: a map sums to score(x) − score(x′), up to the quadrature's error, which
    `dlcore.visualize.metrics.completeness_error` measures. `baseline` is x′: a number, one image, or one per image, in
    units of x; raises `ValueError` for another shape. `steps` are the points of the path, at most `block` images are
    evaluated at once.
    """
    checked("integrated_gradients", x, target)
    if shape_of(baseline) not in ((), x.shape[1:], x.shape):
        raise ValueError(
            f"integrated_gradients: baseline has shape {shape_of(baseline)}; it must be a number, one image "
            f"{x.shape[1:]}, or {x.shape}"
        )
    start = jnp.broadcast_to(jnp.asarray(baseline, x.dtype), x.shape)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    at = {"start": start, "along": jnp.asarray((nodes + 1) / 2, x.dtype)}
    weigh = lambda numbers, counted: counted * weights[numbers].astype(np.float32) / 2  # noqa: E731
    mean = _added(model, params, state, x, target, at, steps, weigh, _between, block=block, score=score)
    return (x - start) * mean


def _between(at: Any, x: Array, number: Array) -> Array:
    return at["start"] + at["along"][number] * (x - at["start"])


def _added(
    model: Model,
    params: Params,
    state: State,
    x: Array,
    target: Any,
    at: Any,
    count: int,
    weigh: Callable[[np.ndarray, np.ndarray], np.ndarray],
    point: Callable[[Any, Array, Array], Array],
    *,
    block: int,
    score: Score,
) -> Array:
    """Σ_n w_n ∂ score / ∂ x at point(at, x, n), a block of n at a time."""
    total = jnp.zeros_like(x)
    for numbers, counted in in_blocks("block", count, len(x), block):
        weights = jnp.asarray(weigh(numbers, counted), x.dtype)
        total += _weighted(model, params, state, x, target, at, numbers, weights, point=point, score=score)
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
    point: Callable[[Any, Array, Array], Array],
    score: Score,
) -> Array:
    points = jax.vmap(lambda number: point(at, x, number))(numbers)
    targets = repeated(target, len(numbers))
    found = _gradient(model, params, state, points.reshape(-1, *x.shape[1:]), targets, score=score)
    return jnp.tensordot(weights, found.reshape(points.shape), 1)


def repeated(target: Any, times: int) -> Any:
    """Every leaf [b, ...] as [times · b, ...], for so many variations of the same images, one after the other."""
    return jax.tree.map(lambda leaf: jnp.tile(leaf, (times, *(1,) * (jnp.ndim(leaf) - 1))), target)


def over_channels(maps: Float[Array, "b *s c"]) -> Float[Array, "b *s"]:
    """The largest magnitude over the channels of each pixel: how a map of colour images is shown."""
    return jnp.abs(maps).max(-1)
