"""Metrics that add up exactly over batches (lecture 1.1–1.3): sums and counts, divided once at the end."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def correct(logits: Float[Array, "*b c"], labels: Int[Array, "*b"]) -> Float[Array, "*b"]:
    """1 where the largest logit is the label's, else 0; the mean is the accuracy."""
    return (logits.argmax(-1) == labels).astype(jnp.float32)


def top_k_correct(logits: Float[Array, "*b c"], labels: Int[Array, "*b"], k: int) -> Float[Array, "*b"]:
    """1 where fewer than k logits exceed the label's, else 0."""
    own = jnp.take_along_axis(logits, labels[..., None], axis=-1)
    return ((logits > own).sum(-1) < k).astype(jnp.float32)


def confusion_matrix(
    predicted: Int[Array, " n"], labels: Int[Array, " n"], classes: int, *, where: Bool[Array, " n"] | None = None
) -> Int[Array, "c c"]:
    """Counts, entry (i, j) of examples of class i predicted as j. Add over batches."""
    ones = jnp.ones(labels.shape, jnp.int32) if where is None else where.astype(jnp.int32)
    return jnp.zeros((classes, classes), jnp.int32).at[labels, predicted].add(ones)


def iou(confusion: Int[Array, "c c"]) -> Float[Array, " c"]:
    """Intersection over union per class, TP/(TP + FP + FN); NaN for a class that never occurs."""
    hits = jnp.diagonal(confusion)
    return hits / (confusion.sum(0) + confusion.sum(1) - hits)


class Calibration(NamedTuple):
    """Per bin of confidence: summed confidence, number of correct predictions, number of examples."""

    confidence: Float[Array, " bins"]
    correct: Float[Array, " bins"]
    count: Float[Array, " bins"]


def calibration(
    probabilities: Float[Array, "n c"],
    labels: Int[Array, " n"],
    *,
    bins: int = 15,
    where: Bool[Array, " n"] | None = None,
) -> Calibration:
    """Sort predictions by their confidence max_k p_k into equal bins (k/bins, (k+1)/bins]. Add over batches."""
    confidence = probabilities.max(-1)
    right = (probabilities.argmax(-1) == labels).astype(jnp.float32)
    index = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    weight = jnp.ones_like(confidence) if where is None else where.astype(jnp.float32)
    zeros = jnp.zeros(bins)
    return Calibration(*(zeros.at[index].add(weight * values) for values in (confidence, right, jnp.ones_like(weight))))


def expected_calibration_error(bins: Calibration) -> Float[Array, ""]:
    """Σ_k n_k/n |accuracy_k − confidence_k| (Guo et al. 2017, eq. 3)."""
    return jnp.abs(bins.correct - bins.confidence).sum() / bins.count.sum()
