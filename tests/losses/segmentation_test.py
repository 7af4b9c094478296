"""Dice, focal and Lovász losses against closed forms and brute loops (lecture 25)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import typecheck
from jaxtyping import config

from dlcore.losses import (
    lovasz_classes,
    lovasz_hinge,
    lovasz_softmax,
    segmentation,
    sigmoid_cross_entropy,
    sigmoid_dice,
    sigmoid_focal,
    softmax_cross_entropy,
    softmax_dice,
    softmax_focal,
)

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(size=(2, 4, 5, 3)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, 3, (2, 4, 5)), jnp.int32)
MASK = jnp.asarray(RNG.random((2, 4, 5)) < 0.7)


def logit(p):
    p = np.asarray(p)
    return jnp.asarray(np.log(p) - np.log1p(-p), jnp.float32)


def close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_dice_by_hand_and_without_anything():
    logits, truth = logit([[0.9, 0.2, 0.7]]), jnp.array([[1, 0, 0]])
    where = jnp.array([[True, True, False]])
    close(sigmoid_dice(logits, truth, smoothing=0.0, where=where), [0.142857])
    nothing = jnp.zeros((1, 3), bool)
    for smoothing in (0.0, 1.0):
        loss = lambda x: sigmoid_dice(x, truth, smoothing=smoothing, where=nothing).sum()  # noqa: B023, E731
        value, gradient = jax.value_and_grad(loss)(logits)
        assert value == 0 and (gradient == 0).all()


@pytest.mark.slow
def test_dice_of_two_classes_and_of_a_batch_of_copies():
    logits = jnp.log(jnp.array([[[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]]))
    labels = jnp.array([[0, 0, 1]])
    close(softmax_dice(logits, labels, smoothing=0.0), [0.317274])
    twice = softmax_dice(jnp.repeat(logits, 2, 0), jnp.repeat(labels, 2, 0), smoothing=0.0)
    close(twice, [0.317274] * 2)
    joined = softmax_dice(jnp.repeat(logits, 2, 1), jnp.repeat(labels, 2, 1), smoothing=0.0)
    close(joined, [0.317274])
    gone = jnp.full((1, 3), 255)
    value, gradient = jax.value_and_grad(lambda x: softmax_dice(x, gone, smoothing=0.0, ignore=255).sum())(logits)
    assert value == 0 and (gradient == 0).all()


def test_dice_is_the_loop_with_smoothing_and_ignored_pixels():
    found = softmax_dice(LOGITS, jnp.where(MASK, LABELS, 255), smoothing=0.5, ignore=255)
    p = np.asarray(jax.nn.softmax(LOGITS), np.float64)
    for b in range(2):
        scores = []
        for k in range(3):
            both = below = 0.0
            for i, j in itertools.product(range(4), range(5)):
                if MASK[b, i, j]:
                    truth = LABELS[b, i, j] == k
                    both += p[b, i, j, k] * truth
                    below += p[b, i, j, k] + truth
            scores.append((2 * both + 0.5) / (below + 0.5))
        close(found[b], 1 - np.mean(scores))


def test_focal_by_hand():
    x = logit([0.9, 0.9])
    close(sigmoid_focal(x, jnp.array([1, 0]), alpha=0.25, gamma=2.0), [2.63401e-4, 1.398820])
    p = jnp.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    close(softmax_focal(jnp.log(p), jnp.array([0, 2]), gamma=2.0), [0.0321007] * 2, 1e-6)
    weighted = softmax_focal(jnp.log(p), jnp.array([0, 2]), weights=jnp.array([0.5, 1.0, 3.0]))
    close(weighted, [0.5 * 0.0321007, 3 * 0.0321007], 1e-6)


def test_focal_without_focus_is_cross_entropy():
    close(softmax_focal(LOGITS, LABELS, gamma=0.0), softmax_cross_entropy(LOGITS, LABELS))
    binary = sigmoid_focal(LOGITS[..., 0], LABELS > 0, alpha=None, gamma=0.0)
    close(binary, sigmoid_cross_entropy(LOGITS[..., 0], LABELS > 0))


@pytest.mark.sampled
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_focal_is_finite_at_extremes(gamma, size):
    x = jnp.array([[size, 0.0, -size], [0.0, 0.0, size]])
    for loss in (
        lambda x: softmax_focal(x, jnp.array([0, 1]), gamma=gamma).sum(),
        lambda x: sigmoid_focal(x, x > 0, gamma=gamma).sum(),
    ):
        value, gradient = jax.value_and_grad(loss)(x)
        assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


def jaccard_loss(wrong, truth):
    """1 − IoU of a mask that has exactly the pixels `wrong` wrong."""
    predicted = truth ^ wrong
    union = (predicted | truth).sum()
    return 1 - (predicted & truth).sum() / union if union else 0.0


def extension(errors, truth):
    """The Lovász extension by its definition: Σ over thresholds of the Jaccard loss of the pixels above."""
    levels = np.unique(np.concatenate([[0.0], np.maximum(errors, 0)]))
    steps = itertools.pairwise(levels)
    return sum((high - low) * jaccard_loss(errors > low, truth) for low, high in steps)


@pytest.mark.slow
def test_lovasz_by_hand():
    logits = jnp.log(jnp.array([[[0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]]))
    labels = jnp.array([[1, 1, 0]])
    close(lovasz_classes(logits, labels)[0], [[0.45, 0.416667]])
    close(lovasz_softmax(logits, labels), [0.433333])


@pytest.mark.slow
def test_lovasz_is_the_extension_of_the_jaccard_loss():
    labels = jnp.where(MASK, jnp.minimum(LABELS, 1), 255)  # class 2 is absent: left out of the mean
    values, present = lovasz_classes(LOGITS, labels, ignore=255)
    mask, logits, labels = (np.asarray(x) for x in (MASK, LOGITS, labels))
    there = np.array([[(labels[b] == k).any() for k in range(3)] for b in range(2)])
    assert (present == there).all() and not there[:, 2].any()
    p = np.asarray(jax.nn.softmax(LOGITS), np.float64)
    for b in range(2):
        for k in range(3):
            truth = (labels[b] == k)[mask[b]]
            close(values[b, k], extension(np.abs(truth - p[b, ..., k][mask[b]]), truth))
    close(lovasz_softmax(LOGITS, jnp.asarray(labels), ignore=255), (values * there).sum(1) / there.sum(1))
    hinge = lovasz_hinge(LOGITS[..., 0], jnp.asarray(labels == 1), where=MASK)
    for b in range(2):
        truth = (labels[b] == 1)[mask[b]]
        margin = 1 - logits[b, ..., 0].astype(np.float64)[mask[b]] * np.where(truth, 1, -1)
        close(hinge[b], extension(margin, truth))


@pytest.mark.slow
def test_lovasz_of_nothing_is_flat_and_of_certainty_the_jaccard_loss():
    gone = jnp.full(LABELS.shape, 255)
    value, gradient = jax.value_and_grad(lambda x: lovasz_softmax(x, gone, ignore=255).sum())(LOGITS)
    assert value == 0 and (gradient == 0).all()
    sure = jnp.asarray(40.0 * np.eye(3, dtype=np.float32)[RNG.integers(0, 3, (2, 4, 5))])
    guess = np.asarray(sure.argmax(-1))
    values, _ = lovasz_classes(sure, LABELS)
    for b, k in itertools.product(range(2), range(3)):
        truth = np.asarray(LABELS[b] == k)
        close(values[b, k], jaccard_loss((guess[b] == k) ^ truth, truth))


@pytest.mark.slow
def test_gradients_of_lovasz_are_finite_differences():
    x, direction = LOGITS, jnp.asarray(RNG.normal(size=LOGITS.shape), jnp.float32)
    f = lambda t: float(lovasz_softmax(x + t * direction, LABELS).sum())  # noqa: E731
    slope = jnp.vdot(jax.grad(lambda x: lovasz_softmax(x, LABELS).sum())(x), direction)
    close(slope, (f(1e-3) - f(-1e-3)) / 2e-3, 5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [softmax_focal, softmax_dice, lovasz_softmax])
def test_what_is_left_out_may_be_nan_and_labels_must_fit(loss):
    bad = jnp.where(MASK[..., None], LOGITS, jnp.nan)
    kept, other = loss(bad, LABELS, where=MASK), loss(jnp.where(MASK[..., None], LOGITS, 7.0), LABELS, where=MASK)
    np.testing.assert_array_equal(kept, other)
    gradient = jax.grad(lambda x: loss(x, LABELS, where=MASK).sum())(bad)
    assert jnp.isfinite(gradient).all() and (gradient[~MASK] == 0).all()
    with pytest.raises(ValueError, match="lie outside 0 … 2"):
        loss(LOGITS, LABELS + 1)
    assert np.isnan(jax.jit(loss)(LOGITS, LABELS + 2)).any()
    with pytest.raises(ValueError, match="classes"):
        loss(LOGITS[..., :1], LABELS * 0)


@pytest.mark.parametrize("loss", [softmax_focal, softmax_dice, lovasz_softmax, sigmoid_focal, sigmoid_dice])
def test_shapes_that_would_broadcast_are_refused(loss):
    config.update("jaxtyping_disable", True)
    try:
        x = LOGITS if "sigmoid" not in loss.__name__ else LOGITS[..., 0]
        with pytest.raises(ValueError, match="shape"):
            loss(x, LABELS[:1])
        with pytest.raises(ValueError, match="shape"):
            loss(x, LABELS, where=MASK[..., :1])
    finally:
        config.update("jaxtyping_disable", False)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="gamma"):
        softmax_focal(LOGITS, LABELS, gamma=-1.0)
    for weights in (jnp.ones(2), jnp.ones(4), jnp.array([1.0, -1.0, 1.0])):
        with typecheck.unchecked(), pytest.raises(ValueError, match="softmax_focal: weights"):
            softmax_focal(LOGITS, LABELS, weights=weights)
    with pytest.raises(ValueError, match="alpha"):
        sigmoid_focal(LOGITS, LOGITS > 0, alpha=2.0)
    with pytest.raises(ValueError, match="smoothing"):
        softmax_dice(LOGITS, LABELS, smoothing=-1.0)


@pytest.mark.slow
def test_sums_of_named_losses_over_one_set_of_pixels():
    labels, weights = jnp.where(MASK, LABELS, 255), (1.0, 2.0, 0.5)
    loss = segmentation("ce+dice", 3, class_weights=weights, ignore=255)
    nll = softmax_cross_entropy(LOGITS, LABELS)
    own = jnp.asarray(weights)[LABELS] * MASK
    ce = (own * nll).sum() / own.sum()
    dice = softmax_dice(LOGITS.reshape(1, -1, 3), labels.reshape(1, -1), ignore=255)[0]
    close(loss(LOGITS, labels), ce + dice)
    close(segmentation("focal", 3, gamma=1.0)(LOGITS, LABELS), softmax_focal(LOGITS, LABELS, gamma=1.0).mean())
    lovasz = lovasz_softmax(LOGITS.reshape(1, -1, 3), LABELS.reshape(1, -1))[0]
    close(segmentation("lovasz", 3)(LOGITS, LABELS), lovasz)
    whole = segmentation("ce+dice+focal+lovasz", 3, ignore=255)
    value, gradient = jax.value_and_grad(whole)(LOGITS, jnp.full_like(LABELS, 255))
    assert value == 0 and (gradient == 0).all()


def test_unknown_losses_and_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"sum of ce, dice, focal, lovasz, such as ce\+dice; got 'jaccard'"):
        segmentation("ce+jaccard", 3)
    with pytest.raises(ValueError, match="give one for each of 3 classes"):
        segmentation("ce", 3, class_weights=(1.0, 2.0))
