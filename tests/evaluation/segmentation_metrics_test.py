"""IoU against scikit-learn and brute loops, boundaries against a distance transform (lecture 25)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from dlcore.evaluation import boundary, boundary_f, confusion_matrix, image_iou, iou, mean_iou


def of(truth, predicted, classes=3, **options):
    pair = (jnp.array([int(c) for c in text]) for text in (predicted, truth))
    return float(mean_iou(confusion_matrix(*pair, classes, **options)))


def test_classes_that_are_absent():
    assert of("0011", "0011") == 1
    assert of("0011", "0211") == pytest.approx(0.5)
    assert of("0000", "0011") == pytest.approx(0.25)


@pytest.mark.slow
def test_one_matrix_for_all_images_at_any_batch_size():
    truth, predicted = np.array([[1, 0, 0, 0], [1, 1, 1, 0]]), np.array([[0, 0, 0, 0], [1, 1, 1, 0]])
    for size in (1, 2):
        pairs = [(predicted[i : i + size], truth[i : i + size]) for i in range(0, 2, size)]
        total = sum(confusion_matrix(jnp.asarray(p), jnp.asarray(t), 2) for p, t in pairs)
        np.testing.assert_allclose(iou(total), [0.8, 0.75], rtol=1e-6)
        assert float(mean_iou(total)) == pytest.approx(0.775)
    # By image: (3/4 + 0)/2 and (1 + 1)/2.
    np.testing.assert_allclose(image_iou(jnp.asarray(predicted), jnp.asarray(truth), 2), [0.375, 1.0])


LABELS = st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 255]), st.integers(0, 3)), min_size=8, max_size=8)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(LABELS)
def test_iou_is_scikit_learns_and_the_loop(pairs):
    truth, predicted = np.array(pairs).T
    matrix = confusion_matrix(jnp.asarray(predicted), jnp.asarray(truth), 4, ignore=255)
    kept = truth != 255
    by_hand = []
    for k in range(4):
        both = sum(t == k and p == k for t, p in zip(truth[kept], predicted[kept], strict=True))
        either = sum(t == k or p == k for t, p in zip(truth[kept], predicted[kept], strict=True))
        by_hand.append(both / either if either else np.nan)
    np.testing.assert_allclose(iou(matrix), by_hand, rtol=1e-6)
    if kept.any():
        present = np.unique([truth[kept], predicted[kept]])
        expected = sklearn.metrics.jaccard_score(truth[kept], predicted[kept], labels=present, average="macro")
        np.testing.assert_allclose(mean_iou(matrix), expected, rtol=1e-6)
        whole = image_iou(jnp.asarray(predicted)[None], jnp.asarray(truth)[None], 4, ignore=255)
        np.testing.assert_allclose(whole, [expected], rtol=1e-6)
    else:
        assert np.isnan(mean_iou(matrix))


def square(top, left):
    mask = np.zeros((1, 9, 9), np.int32)
    mask[:, top : top + 3, left : left + 3] = 1
    return jnp.asarray(mask)


@pytest.mark.parametrize(
    ("shift", "scores"),
    [((0, 1), {0: 0.5, 1: 1.0}), ((0, 2), {0: 0.375, 1: 0.625, 2: 1.0}), ((1, 1), {1: 0.875})],
)
def test_boundary_of_a_shifted_square(shift, scores):
    for tolerance, expected in scores.items():
        counts = boundary(square(3 + shift[0], 3 + shift[1]), square(3, 3), 2, tolerance=tolerance)
        assert float(boundary_f(counts)[1]) == pytest.approx(expected)


def edges(labels, kept, k):
    """Pixels of class k with a neighbour of another class, by a loop."""
    height, width = labels.shape
    found = np.zeros((height, width), bool)
    for i, j in itertools.product(range(height), range(width)):
        for y, x in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if labels[i, j] == k and kept[i, j] and 0 <= y < height and 0 <= x < width and kept[y, x]:
                found[i, j] |= labels[y, x] != k
    return found


def test_boundary_is_the_distance_transforms():
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 3, (2, 3, 7, 6)) * (rng.random((2, 3, 7, 6)) < 0.3)
    truth = np.where(rng.random(truth.shape) < 0.1, 255, truth)
    for tolerance in (0, 1, 1.5, 2):
        found = jax.jit(lambda p, t: boundary(p, t, 4, tolerance=tolerance, ignore=255))(predicted, truth)  # noqa: B023
        for k in range(4):
            sums = np.zeros(4)
            for b in range(3):
                kept = truth[b] != 255
                a, c = edges(predicted[b], kept, k), edges(truth[b], kept, k)
                for n, (one, other) in enumerate(((a, c), (c, a))):
                    distance = distance_transform_edt(~other) if other.any() else np.full(one.shape, np.inf)
                    sums[2 * n : 2 * n + 2] += (one & (distance <= tolerance)).sum(), one.sum()
            np.testing.assert_array_equal([x[k] for x in found], sums)
            precision, recall = sums[0] / max(sums[1], 1), sums[2] / max(sums[3], 1)
            expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
            expected = expected if sums[1] + sums[3] else np.nan  # class 3 never occurs
            np.testing.assert_allclose(boundary_f(found)[k], expected, rtol=1e-6)


@pytest.mark.slow
def test_an_area_up_to_the_edge_has_no_boundary_there_and_nan_where_nothing_is():
    whole = jnp.zeros((1, 4, 4), jnp.int32)
    assert np.isnan(boundary_f(boundary(whole, whole, 2))).all()
    half = whole.at[:, :, 2:].set(1)
    assert boundary(half, half, 2, tolerance=0).true.tolist() == [4, 4]
    assert boundary_f(boundary(whole, half, 2)).tolist() == [0, 0]
    assert np.isnan(image_iou(whole, whole, 2, where=whole > 0)).all()


def test_bad_arguments_are_refused():
    labels = jnp.zeros((1, 4, 4), jnp.int32)
    with pytest.raises(ValueError, match="tolerance"):
        boundary(labels, labels, 2, tolerance=-1)
    with pytest.raises(ValueError, match="lie outside"):
        boundary(labels + 2, labels, 2)
    with pytest.raises(ValueError, match="lie outside"):
        image_iou(labels, labels + 2, 2)
