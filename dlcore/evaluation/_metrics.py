"""Metrics that add up over batches (lecture 1.1–1.3): sums and counts, divided once at the end.

Labels outside 0 … c − 1 are refused, except the one to `ignore` and what `where` leaves out. Under `jit`, where labels
cannot be looked at, they make results NaN, and counts negative. Raises `ValueError` for shapes that do not fit.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Shaped

from dlcore.operands import Discrete, class_labels, equal_shapes, known, masked, wide
from dlcore.setting import whole


def correct(
    logits: Float[Array, "*b c"],
    labels: Discrete[Array, "*b"],
    *,
    ignore: int | None = None,
    where: Discrete[Array, "*b"] | None = None,
) -> Float[Array, "*b"]:
    """1 where the label's logit is larger than every other, else 0; the mean is the accuracy.

    A tie counts 0, and so does a row with a NaN. What `ignore` and `where` leave out is 0, and to be left out of the
    mean as well.
    """
    return _among("correct", logits, labels, 1, ignore, where)


def top_k_correct(
    logits: Float[Array, "*b c"],
    labels: Discrete[Array, "*b"],
    k: int,
    *,
    ignore: int | None = None,
    where: Discrete[Array, "*b"] | None = None,
) -> Float[Array, "*b"]:
    """1 where fewer than k other logits are as large as the label's, else 0, and 0 for a row with a NaN.

    Raises `ValueError` unless 1 ≤ k ≤ c.
    """
    if not 1 <= (k := whole(k, "top_k_correct: k", least=0)) <= jnp.shape(logits)[-1]:
        raise ValueError(f"top_k_correct: k must lie in 1 … {jnp.shape(logits)[-1]}, the number of classes, got {k}")
    return _among("top_k_correct", logits, labels, k, ignore, where)


def _among(function: str, logits: Any, labels: Any, k: int, ignore: int | None, where: Any) -> Float[Array, "*b"]:
    *shape, classes = jnp.shape(logits)
    index, inside, counted = class_labels(function, labels, tuple(shape), classes, ignore=ignore, where=where)
    own = jnp.take_along_axis(logits, index[..., None], axis=-1)
    hit = ((logits >= own).sum(-1) <= k) & ~jnp.isnan(logits).any(-1)
    return masked(jnp.where(inside, hit.astype(jnp.float32), jnp.nan), counted)


def error_rate(
    predict: Callable[[Array], Array], inputs: Shaped[Array, "n ..."], labels: Discrete[Array, " n"], most: int = 500
) -> Float[Array, ""]:
    """The share of examples that `predict(inputs [1, ...]) -> logits [1, c]` is wrong on, as `correct` counts.

    At most so many at a time: for whole splits inside one program, with the memory of a batch.
    """
    wrong = lambda row: 1 - correct(predict(row[0][None]), row[1][None])[0]  # noqa: E731
    return jax.lax.map(wrong, (jnp.asarray(inputs), jnp.asarray(labels)), batch_size=most).mean()


def confusion_matrix(
    predicted: Discrete[Array, "*n"],
    labels: Discrete[Array, "*n"],
    classes: int,
    *,
    ignore: int | None = None,
    where: Discrete[Array, "*n"] | None = None,
) -> Int[Array, "c c"]:
    """Counts, entry (i, j) of examples of class i predicted as j, exact to 2³¹ − 1. Add over batches.

    Under `jit` a label or prediction out of range makes the matrix one of negative numbers, −2³¹, −2³⁰ … in turn, some
    of which stay negative however many such matrices are added; `iou` of it is NaN or an error.
    """
    function, shape = "confusion_matrix", equal_shapes("confusion_matrix", predicted=predicted, labels=labels)
    classes = whole(classes, "confusion_matrix: classes")
    row, inside, counted = class_labels(function, labels, shape, classes, ignore=ignore, where=where)
    if counted is not None and known(counted, predicted):
        predicted = jnp.where(counted, predicted, 0)
    column, also, _ = class_labels(function, predicted, shape, classes, name="predicted", where=counted)
    counted = jnp.ones(shape, bool) if counted is None else counted
    counts = jnp.zeros((classes, classes), jnp.int32).at[row, column].add(counted.astype(jnp.int32))
    ladder = jnp.left_shift(jnp.int32(-1), 31 - jnp.arange(classes**2, dtype=jnp.int32).reshape(classes, classes) % 31)
    return jnp.where((counted & ~(inside & also)).any(), ladder, counts)


def iou(confusion: Integer[Array, "c c"] | Integer[np.ndarray, "c c"]) -> Float[Array, " c"]:
    """Intersection over union per class, TP/(TP + FP + FN); NaN for a class that never occurs.

    Raises `ValueError` for a matrix that is not square or, outside `jit`, has negative counts (labels out of range).
    """
    if jnp.ndim(confusion) != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"iou: expected a confusion matrix [c, c], got shape {jnp.shape(confusion)}")
    if known(confusion) and (np.asarray(confusion) < 0).any():
        raise ValueError("iou: negative counts: labels out of range were counted; pass ignore= to confusion_matrix")
    counts = jnp.asarray(confusion, jnp.float32)
    hits = jnp.diagonal(counts)
    return jnp.where((counts < 0).any(), jnp.nan, hits / (counts.sum(0) + counts.sum(1) - hits))


class Calibration(NamedTuple):
    """Per bin of confidence: summed confidence, number of correct predictions, number of examples."""

    confidence: Float[Array, " bins"]
    correct: Int[Array, " bins"]
    count: Int[Array, " bins"]


def calibration(
    probabilities: Float[Array, "*n c"],
    labels: Discrete[Array, "*n"],
    *,
    bins: int = 15,
    ignore: int | None = None,
    where: Discrete[Array, "*n"] | None = None,
) -> Calibration:
    """Sort predictions by their confidence max_k p_k into equal bins (k/bins, (k+1)/bins]. Add over batches.

    Whether one is correct is decided as by `correct`. A row of NaN is counted as wrong, with a confidence of NaN, and
    so is, under `jit`, a row that is no row of probabilities or has a label out of range. Raises `ValueError` for no
    bins, and outside `jit` for numbers outside [0, 1].
    """
    if bins < 1:
        raise ValueError(f"calibration: bins must be at least 1, got {bins}")
    probabilities = wide(probabilities, "calibration")
    *shape, classes = probabilities.shape
    _, _, counted = class_labels("calibration", labels, tuple(shape), classes, ignore=ignore, where=where)
    right = _among("calibration", probabilities, labels, 1, ignore, where)
    counted = jnp.ones(right.shape, bool) if counted is None else counted
    confidence, lowest = probabilities.max(-1), probabilities.min(-1)
    # Half the digits of float32: rounding may carry probabilities past 1.
    bad = counted & ((confidence > 1 + 3e-4) | (lowest < 0))
    if known(bad) and bad.any():
        raise ValueError("calibration: probabilities must lie in [0, 1]; pass jax.nn.softmax(logits)")
    confidence = jnp.where(bad | jnp.isnan(right), jnp.nan, confidence)
    index = jnp.where(jnp.isnan(confidence), 0, jnp.clip(jnp.ceil(confidence * bins) - 1, 0, bins - 1))

    def one(k: Array) -> tuple[Array, Array, Array]:
        # A reduction per bin keeps its digits, where adding one example after the other does not.
        inside = counted & (index == k)
        return jnp.where(inside, confidence, 0.0).sum(), (inside & (right == 1)).sum(), inside.sum()

    confidence, hits, count = jax.lax.map(one, jnp.arange(bins))
    return Calibration(confidence, hits.astype(jnp.int32), count.astype(jnp.int32))


def expected_calibration_error(bins: Calibration) -> Float[Array, ""]:
    """Σ_k n_k/n |accuracy_k − confidence_k| (Guo et al. 2017, eq. 3). Raises `ValueError` for unlike shapes."""
    equal_shapes("expected_calibration_error", **bins._asdict())
    return jnp.abs(bins.correct - bins.confidence).sum() / jnp.asarray(bins.count, jnp.float32).sum()


def psnr(mse: float, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, 10 log₁₀ peak²/mse, of a squared error that may be pooled over images.

    Infinite for no error. Raises `ValueError` for a negative one.

    >>> psnr(0.01)
    20.0
    """
    if mse < 0:
        raise ValueError(f"psnr: the squared error must not be negative, got {mse}")
    return 10 * math.log10(peak**2 / mse) if mse else math.inf
