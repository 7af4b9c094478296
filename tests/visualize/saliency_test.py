"""Attributions by gradients against closed forms and brute loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import CNN
from dlcore.nn import Activation, Dense, Function, serial
from dlcore.visualize import _saliency as saliency
from dlcore.visualize import completeness_error, probability

PRODUCT = Function(lambda x: x[:, :1] ** 2 * x[:, 1:], "product")
LINEAR, KERNEL = Dense(2, bias=False), {"kernel": jnp.array([[1.0, 3.0], [2.0, 4.0]])}
ZERO = jnp.array([0])
NET = serial(Dense(6), Activation("silu"), Dense(3))
X = jax.random.normal(jax.random.key(0), (3, 4))
LABELS = jnp.array([2, 0, 1])


def started(model=NET, x=X):
    return model.init(jax.random.key(1), x)


def test_integrated_gradients_of_a_polynomial_by_hand():
    found = saliency.integrated_gradients(
        PRODUCT, {}, {}, jnp.array([[3.0, 2.0]]), ZERO, baseline=jnp.array([1.0, 1.0]), steps=4
    )
    np.testing.assert_allclose(found, [[38 / 3, 13 / 3]], rtol=1e-5)
    np.testing.assert_allclose(found.sum(), 17, rtol=1e-6)


def test_scores_are_logits():
    x = jnp.full((1, 2), 50.0)
    np.testing.assert_array_equal(saliency.saliency(LINEAR, KERNEL, {}, x, jnp.array([1])), [[3, 4]])
    sure = saliency.saliency(LINEAR, KERNEL, {}, x, jnp.array([1]), score=probability)
    assert (sure == 0).all(), "where the network is sure the probability has no slope"


def test_gradient_has_a_sign_and_saliency_has_none():
    params = {"kernel": -KERNEL["kernel"]}
    x = jnp.array([[2.0, 5.0]])
    np.testing.assert_array_equal(saliency.gradient(LINEAR, params, {}, x, ZERO), [[-1, -2]])
    np.testing.assert_array_equal(saliency.saliency(LINEAR, params, {}, x, ZERO), [[1, 2]])
    np.testing.assert_array_equal(saliency.input_times_gradient(LINEAR, params, {}, x, ZERO), [[-2, -10]])


@pytest.mark.parametrize("block", [1, 7, 64])
def test_smooth_grad_is_the_mean_over_noise_in_any_blocks(block):
    params, state = started()
    options = {"key": jax.random.key(3), "std": 0.3, "samples": 5}
    found = saliency.smooth_grad(NET, params, state, X, LABELS, **options, block=block)
    slope = jax.jit(jax.grad(lambda x, i: NET.apply(params, state, x[None])[0][0, i]))
    for row, (x, label) in enumerate(zip(X, LABELS, strict=True)):
        noise = [jax.random.normal(jax.random.fold_in(options["key"], j), (4,)) for j in range(5)]
        np.testing.assert_allclose(found[row], np.mean([slope(x + 0.3 * e, label) for e in noise], 0), rtol=1e-5)


@pytest.mark.parametrize("block", [2, 64])
def test_integrated_gradients_are_complete_and_the_integral(block):
    params, state = started()
    baseline = 0.5 * X[::-1]
    found = saliency.integrated_gradients(NET, params, state, X, LABELS, baseline=baseline, steps=24, block=block)
    assert (completeness_error(NET, params, state, X, LABELS, found, baseline=baseline) < 1e-4).all()
    slopes = jax.vmap(lambda a: saliency.gradient(NET, params, state, baseline + a * (X - baseline), LABELS))
    fine = slopes((jnp.arange(2000) + 0.5) / 2000).mean(0)
    np.testing.assert_allclose(found, (X - baseline) * fine, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_integrated_gradients_of_rectifiers_miss_less_than_a_hundredth():
    x = jax.random.normal(jax.random.key(2), (4, 6, 6, 2))
    model = CNN((4, 6), 3, hidden=8)
    params, state = started(model, x)
    labels = model.apply(params, state, x)[0].argmax(-1)
    found = saliency.integrated_gradients(model, params, state, x, labels, steps=200, block=400)
    outputs = [model.apply(params, state, images)[0] for images in (x, 0 * x)]
    ends = [np.take_along_axis(np.asarray(y), np.asarray(labels)[:, None], 1)[:, 0] for y in outputs]
    difference = ends[0] - ends[1]
    assert (np.abs(found.sum((1, 2, 3)) - difference) < 0.01 * np.abs(difference)).all()
    np.testing.assert_allclose(
        completeness_error(model, params, state, x, labels, found),
        np.abs(found.sum((1, 2, 3)) - difference) / np.abs(difference),
        atol=1e-4,
    )


@pytest.mark.slow
def test_a_row_is_that_image_alone():
    params, state = started()
    for method, options in (
        (saliency.saliency, {}),
        (saliency.smooth_grad, {"key": jax.random.key(3), "std": 0.3, "samples": 4}),
        (saliency.integrated_gradients, {"baseline": 0.1}),
    ):
        found = method(NET, params, state, X, LABELS, **options)
        alone = method(NET, params, state, X[1:2], LABELS[1:2], **options)
        np.testing.assert_allclose(found[1:2], alone, rtol=1e-5, atol=1e-6)


def test_over_channels_keeps_the_largest_magnitude():
    np.testing.assert_array_equal(saliency.over_channels(jnp.array([[[1.0, -3.0], [2.0, 0.0]]])), [[3, 2]])


def test_what_cannot_be_explained_is_refused():
    params, state = started()
    with pytest.raises(ValueError, match=r"floats.*int32"):
        saliency.saliency(LINEAR, KERNEL, {}, jnp.ones((1, 2), jnp.int32), ZERO)
    with pytest.raises(ValueError, match=r"target has shape \(2,\).*3 images"):
        saliency.gradient(NET, params, state, X, LABELS[:2])
    with pytest.raises(ValueError, match="negative"):
        saliency.gradient(NET, params, state, X, LABELS - 1)
    with pytest.raises(ValueError, match=r"baseline has shape \(3,\)"):
        saliency.integrated_gradients(NET, params, state, X, LABELS, baseline=jnp.zeros(3))
    with pytest.raises(ValueError, match="block must be"):
        saliency.smooth_grad(NET, params, state, X, LABELS, key=jax.random.key(0), std=0.1, block=0)
    with pytest.raises(ValueError, match="one number for each of 3 images"):
        saliency.gradient(NET, params, state, X, LABELS, score=lambda outputs, target: outputs)
    assert np.isnan(saliency.gradient(NET, params, state, X, jnp.array([0, 3, 1]))).any(1).tolist() == [
        False,
        True,
        False,
    ]
