"""Metrics against scikit-learn; sums over uneven batches are exact (lecture 1.1–1.3)."""

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.metrics

from dlcore.train import metrics
from dlcore.types import Mean

RNG = np.random.default_rng(0)
LABELS = jnp.asarray(RNG.integers(0, 4, 103))
LOGITS = jnp.asarray(RNG.normal(size=(103, 4)).astype(np.float32)) + 1.2 * jax.nn.one_hot(LABELS, 4)
BATCHES = [slice(0, 40), slice(40, 80), slice(80, 103)]


def summed(function):
    return jax.tree.map(lambda *leaves: sum(leaves), *[function(LOGITS[b], LABELS[b]) for b in BATCHES])


def test_accuracy_counts_the_last_partial_batch():
    mean = summed(lambda x, y: Mean.of(metrics.correct(x, y)))
    expected = sklearn.metrics.accuracy_score(LABELS, LOGITS.argmax(-1))
    assert float(mean.count) == 103
    np.testing.assert_allclose(mean.value(), expected, rtol=1e-6)
    padded = jnp.concatenate([LOGITS, LOGITS[:9]]), jnp.concatenate([LABELS, LABELS[:9]])
    np.testing.assert_allclose(Mean.of(metrics.correct(*padded), jnp.arange(112) < 103).value(), expected, rtol=1e-6)


def test_top_k():
    expected = sklearn.metrics.top_k_accuracy_score(LABELS, LOGITS, k=2, labels=range(4))
    np.testing.assert_allclose(metrics.top_k_correct(LOGITS, LABELS, 2).mean(), expected, rtol=1e-6)


def test_confusion_and_iou():
    matrix = summed(lambda x, y: metrics.confusion_matrix(x.argmax(-1), y, 4))
    np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(LABELS, LOGITS.argmax(-1)))
    expected = sklearn.metrics.jaccard_score(LABELS, LOGITS.argmax(-1), average=None)
    np.testing.assert_allclose(metrics.iou(matrix), expected, rtol=1e-6)
    half = metrics.confusion_matrix(LOGITS.argmax(-1), LABELS, 4, where=jnp.arange(103) < 50)
    assert int(half.sum()) == 50


def test_calibration_error_is_the_loop_over_bins():
    p = np.asarray(jax.nn.softmax(LOGITS), np.float64)
    confidence, right = p.max(-1), p.argmax(-1) == np.asarray(LABELS)
    expected = 0.0
    for low in np.arange(10) / 10:
        inside = (confidence > low) & (confidence <= low + 0.1)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    bins = summed(lambda x, y: metrics.calibration(jax.nn.softmax(x), y, bins=10))
    np.testing.assert_allclose(metrics.expected_calibration_error(bins), expected, rtol=1e-5)
    assert float(bins.count.sum()) == 103
