"""The Gaussian models of images fitted, chosen and measured (lecture 22)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dlcore import evaluation
from dlcore.evaluation import bits_per_dim
from dlcore.generative import gaussian_images
from dlcore.generative.classifier import bayes

Rows = Mapping[str, Any]


def study(
    train: Rows, held: Rows, test: Rows, classes: int, levels: int, shrinkages: Sequence[float], *, block: int = 500
) -> dict[str, Any]:
    """All three models of `train`, with the shrinkage that `held` prefers, measured on `test`.

    Rows have `image` (grey levels) and `label`. Found: `models` (their fields, see `gaussian_images.restored`),
    `log_prior`, `shrinkage`, and `metrics` by model: accuracy, nats of p(y|x), calibration error, bits/dim of p(x).
    """
    models, shrinkage = gaussian_images.choose(train, held, classes, levels, shrinkages)
    return {
        "models": {name: model._asdict() for name, model in models.items()},
        "log_prior": models["lda"].log_prior,
        "shrinkage": shrinkage,
        "metrics": {name: _measured(model, test, levels, block) for name, model in models.items()},
    }


def posteriors(
    train: Rows, held: Rows, chosen: np.ndarray, images: Array, classes: int, levels: int, shrinkages: Sequence[float]
) -> dict[str, np.ndarray]:
    """log p(y|x) of images [n, h, w, c] by all three models of the `chosen` rows of `train` alone."""
    where = np.isin(np.arange(len(train["label"])), chosen)
    models, _ = gaussian_images.choose(train, held, classes, levels, shrinkages, where=where)
    judged = jax.jit(gaussian_images.posterior_of, static_argnums=2)
    return {name: np.asarray(judged(model, images, levels)) for name, model in models.items()}


def _measured(model: gaussian_images.Model, test: Rows, levels: int, block: int) -> dict[str, float]:
    @jax.jit
    def judged(images: Array, start: Array) -> Any:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(1), start + jnp.arange(len(images)))
        return bayes(gaussian_images.log_likelihoods(model, images, keys, levels), model.log_prior)

    images = test["image"]
    parts = [judged(images[start : start + block], start) for start in range(0, len(images), block)]
    log_posterior, log_evidence = (jnp.concatenate(part) for part in zip(*parts, strict=True))
    counted = jax.jit(evaluation.classification_sums)(log_posterior, test["label"], np.ones(len(images), bool))
    nats = -float(np.asarray(log_evidence, np.float64).mean())
    bits = float(bits_per_dim(nats, math.prod(images.shape[1:])))
    return {**evaluation.classification_summary(counted), "bits_per_dim": bits}


def named_metrics(arrays: Mapping[str, Any]) -> dict[str, float]:
    """From what `study` found: `accuracy_lda`, …, and `shrinkage_lda`, `shrinkage_qda`."""
    found = {f"shrinkage_{name}": float(value) for name, value in arrays["shrinkage"].items()}
    for model, values in arrays["metrics"].items():
        found |= {f"{name}_{model}": float(value) for name, value in values.items()}
    return found
