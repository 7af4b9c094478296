"""Metrics against scikit-learn; sums over uneven batches are exact (lecture 1.1–1.3)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from dlcore.evaluation import _metrics as metrics
from dlcore.types import Mean

RNG = np.random.default_rng(0)
LABELS = jnp.asarray(RNG.integers(0, 4, 103))
LOGITS = jnp.asarray(RNG.normal(size=(103, 4)).astype(np.float32)) + 1.2 * jax.nn.one_hot(LABELS, 4)
BATCHES = [slice(0, 40), slice(40, 80), slice(80, 103)]


def summed(function):
    return jax.tree.map(lambda *leaves: sum(leaves), *[function(LOGITS[b], LABELS[b]) for b in BATCHES])


@pytest.mark.slow
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


@pytest.mark.slow
def test_confusion_and_iou():
    matrix = summed(lambda x, y: metrics.confusion_matrix(x.argmax(-1), y, 4))
    np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(LABELS, LOGITS.argmax(-1)))
    expected = sklearn.metrics.jaccard_score(LABELS, LOGITS.argmax(-1), average=None)
    np.testing.assert_allclose(metrics.iou(matrix), expected, rtol=1e-6)
    half = metrics.confusion_matrix(LOGITS.argmax(-1), LABELS, 4, where=jnp.arange(103) < 50)
    assert int(half.sum()) == 50


@pytest.mark.slow
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


BY_LABEL = {
    "correct": lambda x, y, **k: metrics.correct(x, y, **k),
    "top_k_correct": lambda x, y, **k: metrics.top_k_correct(x, y, 2, **k),
    "calibration": lambda x, y, **k: metrics.calibration(jax.nn.softmax(x), y, bins=3, **k),
    "confusion_matrix": lambda x, y, **k: metrics.confusion_matrix(x.argmax(-1), y, 4, **k),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_LABEL)
def test_labels_out_of_range_are_refused_or_left_out(name):
    metric, logits = BY_LABEL[name], LOGITS[:6]
    for bad in (-1, 4, 255):
        labels = LABELS[:6].at[2].set(bad)
        with pytest.raises(ValueError, match=f"1 labels lie outside 0 … 3: {bad}; .*ignore="):
            metric(logits, labels)
        kept = np.arange(6) != 2
        alone = metric(logits[kept], labels[kept])
        for found in (metric(logits, labels, ignore=bad), metric(logits, labels, where=jnp.asarray(kept))):
            if name.endswith("correct"):
                np.testing.assert_array_equal(found, np.insert(alone, 2, 0))
            else:
                jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, alone)


@pytest.mark.parametrize("name", BY_LABEL)
def test_labels_out_of_range_show_under_jit(name):
    for bad in (-1, 4, 255):
        found = jax.jit(BY_LABEL[name])(LOGITS[:6], LABELS[:6].at[2].set(bad))
        if name == "confusion_matrix":
            clean = metrics.confusion_matrix(LABELS, LABELS, 4)
            for batches in (1, 2, 3, 4, 12, 1000):
                total = clean + sum([found] * batches)
                assert np.isnan(jax.jit(metrics.iou)(total)).all()
                with pytest.raises(ValueError, match="negative counts"):
                    metrics.iou(total)
        elif name == "calibration":
            assert np.isnan(metrics.expected_calibration_error(found))
        else:
            assert np.isnan(found[2]) and np.isfinite(np.delete(found, 2)).all()


def test_predictions_out_of_range_are_refused():
    with pytest.raises(ValueError, match="predicted lie outside 0 … 1: 2"):
        metrics.confusion_matrix(jnp.array([0, 2]), jnp.array([0, 1]), 2)
    ignored = metrics.confusion_matrix(jnp.array([0, 2]), jnp.array([0, 255]), 2, ignore=255)
    np.testing.assert_array_equal(ignored, [[1, 0], [0, 0]])
    assert (jax.jit(lambda a, b: metrics.confusion_matrix(a, b, 2))(jnp.array([0, 2]), jnp.array([0, 1])) < 0).all()


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint32", "int32"])
def test_every_dtype_of_labels_and_masks(dtype):
    classes, size = (2, 300) if dtype == "bool" else (300 if dtype.endswith(("16", "32")) else 100, 300)
    rng = np.random.default_rng(1)
    labels, logits = rng.integers(0, classes, size), rng.normal(size=(size, classes)).astype(np.float32)
    where = rng.integers(0, 2, size)
    scores, given, mask = jnp.asarray(logits), jnp.asarray(labels).astype(dtype), jnp.asarray(where).astype(dtype)
    order = np.argsort(-logits, axis=-1)
    for k in (1, 2):
        expected = (order[:, :k] == labels[:, None]).any(-1) * where
        np.testing.assert_array_equal(metrics.top_k_correct(scores, given, k, where=mask), expected)
    matrix = metrics.confusion_matrix(jnp.asarray(order[:, 0]), given, classes, where=mask)
    rows = where == 1
    expected = sklearn.metrics.confusion_matrix(labels[rows], order[rows, 0], labels=range(classes))
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.slow
def test_ties_give_at_most_chance_and_nan_gives_nothing():
    labels = jnp.arange(100) % 10
    for k in (1, 3):
        assert float(metrics.top_k_correct(jnp.zeros((100, 10)), labels, k).mean()) <= k / 10
    assert float(metrics.top_k_correct(jnp.zeros((100, 10)), labels, 10).mean()) == 1
    assert float(metrics.correct(jnp.zeros((100, 10)), labels).mean()) <= 0.1
    for row in (jnp.full(10, jnp.nan), jnp.zeros(10).at[3].set(jnp.nan), jnp.arange(10.0).at[0].set(jnp.nan)):
        logits = jnp.broadcast_to(row, (100, 10))
        assert not metrics.correct(logits, labels).any() and not metrics.top_k_correct(logits, labels, 10).any()
        assert not metrics.calibration(logits, labels).correct.any()
        assert np.isnan(metrics.expected_calibration_error(metrics.calibration(logits, labels)))
    infinite = jnp.full((2, 3), -jnp.inf).at[0, 1].set(0).at[1, 1].set(jnp.inf)
    np.testing.assert_array_equal(metrics.correct(infinite, jnp.array([1, 1])), [1, 1])


@pytest.mark.slow
def test_what_lies_behind_a_mask_is_not_counted():
    p = jax.nn.softmax(LOGITS).at[50:].set(jnp.nan)
    where = jnp.arange(103) < 50
    found = metrics.calibration(p, LABELS.at[50:].set(-7), where=where)
    expected = metrics.calibration(p[:50], LABELS[:50])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
    assert float(found.count.sum()) == 50


def test_the_upper_edge_belongs_to_a_bin():
    p = jnp.array([[0.5, 0.5], [0.75, 0.25], [0.76, 0.24], [1.0, 0.0]])
    np.testing.assert_array_equal(metrics.calibration(p, jnp.zeros(4, jnp.int32), bins=4).count, [0, 1, 1, 2])


def test_logits_are_no_probabilities():
    with pytest.raises(ValueError, match="softmax"):
        metrics.calibration(LOGITS, LABELS)
    assert np.isnan(metrics.expected_calibration_error(jax.jit(metrics.calibration)(LOGITS, LABELS)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_million_calibrated_predictions_have_no_calibration_error(dtype):
    # Of 32 predictions with confidence 31/32 (exact in either dtype) one is wrong.
    labels = jnp.arange(10**6) % 32 == 0
    p = jnp.tile(jnp.array([31 / 32, 1 / 32], dtype), (10**6, 1))
    bins = metrics.calibration(p, labels)
    assert int(bins.count[-1]) == 10**6 and int(bins.correct[-1]) == 968750
    assert float(metrics.expected_calibration_error(bins)) < 1e-6


@pytest.mark.slow
def test_ten_million_pixels_are_counted_exactly():
    labels = np.zeros((10, 1000, 1000), np.uint8)
    labels[:, :, 7:] = 1
    matrix = metrics.confusion_matrix(jnp.asarray(labels), jnp.asarray(labels), 2)
    np.testing.assert_array_equal(matrix, [[70000, 0], [0, 9930000]])
    np.testing.assert_allclose(metrics.iou(np.asarray(matrix, np.int64) * 10**5), [1, 1], rtol=1e-6)


def test_psnr_is_in_decibels_of_the_peak():
    assert metrics.psnr(0.01) == pytest.approx(20) and metrics.psnr(4.0, peak=255) == pytest.approx(42.1102, abs=1e-4)
    assert metrics.psnr(0.0) == np.inf
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        metrics.psnr(-1.0)


def test_the_error_rate_of_a_split_is_that_of_its_rows():
    x, labels = jax.random.normal(jax.random.key(0), (11, 4)), jnp.arange(11) % 4
    found = metrics.error_rate(lambda x: x, x, labels, most=4)
    assert float(found) == pytest.approx((np.asarray(x).argmax(1) != np.asarray(labels)).mean())
