"""Whitening of patches against NumPy's covariance in float64, and the networks behind it (lecture 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import WhitenedCNN, Whitening, whitening
from dlcore.nn import compute_in


def textured(n=40, side=9, channels=2, seed=0):
    """Images whose patches have variances of about one size, correlated among neighbours and channels."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n, side + 1, side, channels))
    mixed = noise[:, 1:] + 0.5 * noise[:, :-1] + 0.4 * noise[:, 1:, :, ::-1]
    return jnp.asarray(mixed + np.arange(channels), jnp.float32)


def patches(images, window):
    """All of them by two loops, [positions, window² c], float64."""
    x = np.asarray(images, np.float64)
    rows, columns = x.shape[1] - window + 1, x.shape[2] - window + 1
    found = [x[:, i : i + window, j : j + window].reshape(len(x), -1) for i in range(rows) for j in range(columns)]
    return np.concatenate(found)


@pytest.mark.slow
@pytest.mark.parametrize("window", [2, 3])
def test_outputs_on_the_training_images_have_mean_0_and_covariance_1(window):
    images = textured()
    layer = Whitening(window, epsilon=0.0)
    params, state = layer.init(jax.random.key(0), images)
    y, after = layer.apply(params, state, images, train=True)
    assert params == {} and after is state, "nothing to train, and nothing moves"
    half = y.shape[-1] // 2
    assert half == window**2 * 2
    np.testing.assert_array_equal(y[..., half:], -y[..., :half])
    outputs = np.asarray(y[..., :half], np.float64).reshape(-1, half)
    np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(outputs.T, bias=True), np.eye(half), atol=2e-4)
    assert np.abs(np.cov(patches(images, window).T, bias=True) - np.eye(half)).max() > 0.3, "they were not white before"


def test_a_small_eigenvalue_is_not_blown_up():
    images = textured(channels=1)
    images = jnp.concatenate([images, images + 0.1 * textured(channels=1, seed=1)], -1)  # nearly the same channel twice
    kernel, _ = whitening(images, 2, 1e-2)
    values = np.linalg.eigvalsh(np.cov(patches(images, 2).T, bias=True))
    outputs = patches(images, 2) @ np.asarray(kernel, np.float64).reshape(8, 8)
    variances = np.sort(outputs.var(0))
    np.testing.assert_allclose(variances, np.sort(values / (values + 1e-2 * values.mean())), rtol=2e-3)
    assert variances[0] < 0.5 < 0.95 < variances[-1]


def test_images_of_one_colour_and_shapes_alone_will_do():
    kernel, bias = whitening(jnp.full((2, 4, 4, 1), 0.3))
    assert np.isfinite(kernel).all() and np.isfinite(bias).all()
    params, state = jax.eval_shape(
        WhitenedCNN(3, 8).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    )
    assert state["stem"]["whitening_0"]["kernel"].shape == (3, 3, 1, 9) and "stem" not in params
    with pytest.raises(ValueError, match="images of 2×9 have no patch of 3×3"):
        whitening(jnp.zeros((1, 2, 9, 1)))
    with pytest.raises(ValueError, match="needs images of at least 3 pixels, got 2"):
        WhitenedCNN(3, 2)


@pytest.mark.sampled
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("pixels", [3, 8, 28])
def test_every_size_of_images_has_logits(pixels, deep):
    model = WhitenedCNN(5, pixels, (4, 6, 8), deep=deep)
    images = jax.ShapeDtypeStruct((2, pixels, pixels + 3, 1), jnp.float32)
    like = jax.eval_shape(model.init, jax.random.key(0), images)
    logits, _ = jax.eval_shape(lambda p, s, x: model.apply(p, s, x, train=True), *like, images)
    assert logits.shape == (2, 5)
    kernels = [k for k in jax.tree.leaves(like[0]) if k.ndim == 4]
    assert len(kernels) == (9 if deep else 6)


def test_in_bfloat16_the_stem_computes_in_it_and_stays_as_it_is():
    model = compute_in(Whitening(2), jnp.bfloat16)
    images = textured()
    params, state = model.init(jax.random.key(0), images)
    (y, after), plain = model.apply(params, state, images), Whitening(2).apply(params, state, images)[0]
    jax.tree.map(np.testing.assert_array_equal, after, state)
    assert 0 < np.abs(y - plain).max() < 0.1 * np.abs(plain).max()
