"""Gaussian models of the classes of images, on the ruler of the other densities (lecture 22, 28).

Grey levels x are dequantised, (x + u)/L in [0, 1)^D: −log P(x|y) ≤ E_u[−log p((x + u)/L|y)] + D log L. What uniform
noise adds to every variance, 1/(12 L²), is put in exactly: no pixel is constant, whatever the class.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from dlcore.generative import gaussian_classes as gaussian
from dlcore.generative.classifier import bayes
from dlcore.generative.flow import dequantize, quantize
from dlcore.operands import Discrete
from dlcore.types import Key

MODELS = ("naive_bayes", "lda", "qda")
Model = gaussian.NaiveBayes | gaussian.Gaussians


def fit(
    name: str,
    images: Integer[Array, "n h w c"],
    labels: Discrete[Array, " n"],
    classes: int,
    levels: int,
    *,
    where: Discrete[Array, " n"] | None = None,
    shrinkage: Any = 0.0,
) -> Model:
    """The model of that name, for the pixels of dequantised images; naive Bayes takes no shrinkage.

    Raises `ValueError` for another name, and as the fits of `gaussian_classes` do.
    """
    x, noise = (images.reshape(len(images), -1) + 0.5) / levels, 1 / (12 * levels**2)
    if name == "naive_bayes":
        model = gaussian.fit_naive_bayes(x, labels, classes, where=where)
        return model._replace(variance=model.variance + noise)
    fits = {"lda": gaussian.fit_lda, "qda": gaussian.fit_qda}
    if name not in fits:
        raise ValueError(f"name must be one of {', '.join(MODELS)}, got {name!r}")
    return fits[name](x, labels, classes, where=where, shrinkage=shrinkage, ridge=noise)


def log_likelihoods(
    model: Model,
    images: Integer[Array, "b h w c"],
    keys: Key,
    levels: int,
    observed: Bool[Array, "..."] | None = None,
) -> Float[Array, "b classes"]:
    """A lower bound of log P(x|y) of every class in nats of the discrete image, from noise of one key per row.

    Of the `observed` pixels alone if they are marked, for every image or [h, w, c] for all alike.
    """
    noise = jax.vmap(lambda key: jax.random.uniform(key, images.shape[1:]))(keys)
    y = dequantize(images, noise, levels).reshape(len(images), -1)
    if observed is None:
        return gaussian.log_likelihood(model, y) - y.shape[1] * math.log(levels)
    flat = observed.reshape(-1) if observed.ndim == images.ndim - 1 else observed.reshape(len(images), -1)
    return gaussian.log_likelihood(model, y, flat) - jnp.atleast_1d(flat.sum(-1))[:, None] * math.log(levels)


def choose(
    train: Mapping[str, Any],
    held: Mapping[str, Any],
    classes: int,
    levels: int,
    shrinkages: Sequence[float],
    *,
    where: Bool[np.ndarray, " n"] | None = None,
) -> tuple[dict[str, Model], dict[str, float]]:
    """All three models of the training images that count, LDA and QDA with the shrinkage that gives the least
    −log p(y|x) on the held-out images; and those shrinkages."""
    counted = np.ones(len(train["label"]), bool) if where is None else where
    run = functools.partial(_fitted, classes=classes, levels=levels)
    data = (train["image"], train["label"], counted, held["image"], held["label"])
    found, chosen = {"naive_bayes": run("naive_bayes", *data, 0.0)[0]}, {}
    for name in ("lda", "qda"):
        tried = [run(name, *data, shrinkage) for shrinkage in shrinkages]
        # A covariance that is singular to rounding gives NaN, and is not chosen.
        best = int(np.argmin([np.nan_to_num(float(nats), nan=np.inf) for _, nats in tried]))
        found[name], chosen[name] = tried[best][0], float(shrinkages[best])
    return found, chosen


@functools.partial(jax.jit, static_argnums=0, static_argnames=("classes", "levels"))
def _fitted(
    name: str,
    images: Array,
    labels: Array,
    where: Array,
    held: Array,
    truth: Array,
    shrinkage: Any,
    *,
    classes: int,
    levels: int,
) -> tuple[Model, Float[Array, ""]]:
    """The model, and its mean −log p(y|x) on held-out images."""
    model = fit(name, images, labels, classes, levels, where=where, shrinkage=shrinkage)
    posterior = posterior_of(model, held, levels)
    return model, -jnp.take_along_axis(posterior, truth[:, None].astype(jnp.int32), axis=1).mean()


def posterior_of(
    model: Model, images: Integer[Array, "b h w c"], levels: int, observed: Bool[Array, "..."] | None = None
) -> Float[Array, "b classes"]:
    """log p(y|x), of the observed pixels alone if they are marked; noise goes by the place in the batch."""
    keys = jax.random.split(jax.random.key(0), len(images))
    return bayes(log_likelihoods(model, images, keys, levels, observed), model.log_prior).log_posterior


def draw(
    key: Key, model: Model, labels: Discrete[Array, " n"], shape: Sequence[int], levels: int
) -> Float[Array, "n h w c"]:
    """Images of p(x|y), in [0, 1]: the grey levels that a draw falls in."""
    return quantize(gaussian.draw(key, model, labels).reshape(len(labels), *shape), levels)


def restored(arrays: Mapping[str, Any]) -> Model:
    """The model whose fields were kept as a dict."""
    return (gaussian.NaiveBayes if "variance" in arrays else gaussian.Gaussians)(**arrays)


def judge(model: Model, levels: int) -> Callable[[Array, Array], Array]:
    """`(x, observed [h, w, c]) -> log p(y|x)`: `posterior_of` with the model put in."""
    return lambda x, observed: posterior_of(model, x, levels, observed)
