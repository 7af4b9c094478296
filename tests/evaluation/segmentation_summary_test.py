"""Sums of a segmentation by hand and by scikit-learn (lecture 25)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import jaccard_score, log_loss

from dlcore import evaluation

RNG = np.random.default_rng(0)
IGNORED = 255


def pictures():
    labels = RNG.integers(0, 3, (4, 5, 6))
    labels[:, 0] = IGNORED
    where = np.broadcast_to(np.array([True, True, True, False])[:, None, None], labels.shape)
    return RNG.normal(size=(4, 5, 6, 3)).astype(np.float32), labels, where


def sums_of(logits, labels, where):
    found = evaluation.segmentation_sums(
        jnp.asarray(logits), jnp.asarray(labels), ignore=IGNORED, where=jnp.asarray(where)
    )
    return jax.device_get(found)


def test_metrics_are_scikit_learns_over_the_pixels_that_count():
    logits, labels, where = pictures()
    found = evaluation.segmentation_summary(sums_of(logits, labels, where))
    kept = where & (labels != IGNORED)
    truth, guess = labels[kept], logits.argmax(-1)[kept]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert found["miou"] == pytest.approx(jaccard_score(truth, guess, average="macro"))
    assert found["pixel_accuracy"] == pytest.approx((truth == guess).mean())
    assert found["nll_nats"] == pytest.approx(log_loss(truth, p[kept], labels=[0, 1, 2]), rel=1e-5)
    pairs = [(labels[i, 1:].ravel(), logits[i, 1:].argmax(-1).ravel()) for i in range(3)]
    assert found["image_iou"] == pytest.approx(np.mean([jaccard_score(*pair, average="macro") for pair in pairs]))


def test_sums_of_batches_add_up():
    logits, labels, where = pictures()
    parts = [sums_of(logits[i : i + 2], labels[i : i + 2], where[i : i + 2]) for i in (0, 2)]
    added = evaluation.segmentation_summary(jax.tree.map(np.add, *parts))
    assert added == pytest.approx(evaluation.segmentation_summary(sums_of(logits, labels, where)))


def test_classes_are_named_and_absent_ones_left_out():
    confusion = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert evaluation.iou_by_name(confusion, ("the ground", "leaf", "stone")) == {
        "iou_the_ground": pytest.approx(3 / 4),
        "iou_leaf": pytest.approx(4 / 5),
    }


def test_shapes_that_do_not_fit_are_refused(as_users):
    logits, labels, _ = pictures()
    with pytest.raises(ValueError, match="labels"):
        evaluation.segmentation_sums(jnp.asarray(logits), jnp.asarray(labels[..., None]))
    with pytest.raises(ValueError, match="255"):
        evaluation.segmentation_sums(jnp.asarray(logits), jnp.asarray(labels))
