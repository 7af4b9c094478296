"""Attributions by gradients: saliency, SmoothGrad, input × gradient, integrated gradients (lecture 17).

Maps have the shape of the images, one number per pixel and channel; a row is that image alone, whatever stands beside
it. Scores are logits unless `score` says otherwise.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from dlcore.setting import Number, number, whole
from dlcore.types import Key, Model, Params, State
from dlcore.visualize._score import Score, checked, like, logit
from dlcore.visualize._variations import added_gradients, gradients


def gradient(
    model: Model, params: Params, state: State, x: Shaped[Array, "b *s"], target: Any, *, score: Score = logit
) -> Float[Array, "b *s"]:
    """∂ score / ∂ x of each image, with its sign.

    `target` is the class of each image [b], or what else `score(outputs, target) -> [b]` takes. Raises `ValueError` for
    images that are no floats, and for a target that is not one entry per image.
    """
    checked("gradient", x, target)
    return gradients(model, params, state, x, target, score=score)


def saliency(
    model: Model, params: Params, state: State, x: Shaped[Array, "b *s"], target: Any, *, score: Score = logit
) -> Float[Array, "b *s"]:
    """|∂ score / ∂ x|: how much each pixel would change the score (Simonyan et al. 2014; arguments as in `gradient`).

    >>> from dlcore.nn import Dense
    >>> params = {"kernel": jnp.array([[1.0, 3.0], [2.0, -4.0]])}
    >>> saliency(Dense(2, bias=False), params, {}, jnp.array([[50.0, 50.0]]), jnp.array([1]))
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
    samples, at = whole(samples, "smooth_grad: samples"), {"key": key, "std": number(std, "smooth_grad: std", "[0, ∞)")}
    weights = np.full(samples, 1 / samples, np.float32)
    return added_gradients(model, params, state, x, target, at, weights, _noisy, block=block, score=score)


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
    `dlcore.visualize.completeness_error` measures. `baseline` is x′: a number, one image, or one per image, in
    units of x; raises `ValueError` for another shape. `steps` are the points of the path, at most `block` images are
    evaluated at once.
    """
    checked("integrated_gradients", x, target)
    steps = whole(steps, "integrated_gradients: steps")
    start = like("integrated_gradients: baseline", baseline, x)
    nodes, weights = (part.astype(np.float32) for part in np.polynomial.legendre.leggauss(steps))
    at = {"start": start, "along": jnp.asarray((nodes + 1) / 2, x.dtype)}
    mean = added_gradients(model, params, state, x, target, at, weights / 2, _between, block=block, score=score)
    return (x - start) * mean


def _between(at: Any, x: Array, number: Array) -> Array:
    return at["start"] + at["along"][number] * (x - at["start"])


def over_channels(maps: Float[Array, "b *s c"]) -> Float[Array, "b *s"]:
    """The largest magnitude over the channels of each pixel: how a map of colour images is shown."""
    return jnp.abs(maps).max(-1)
