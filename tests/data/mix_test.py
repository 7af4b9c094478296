"""Rotations, colours and mixtures: identities at zero strength, SciPy and loops by hand (lecture 11.4)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from dlcore.data import colour_jitter, cutmix, mixup, random_rotation, rotate

KEY = jax.random.key(0)
IMAGES = jax.random.uniform(jax.random.key(1), (64, 6, 8, 3))
TARGETS = jax.nn.one_hot(jnp.arange(64) % 5, 5)


@pytest.mark.parametrize("angle", [0.0, 10.0, -30.0, 90.0])
def test_rotation_is_scipys(angle):
    image = IMAGES[0, :, :6]
    expected = scipy.ndimage.rotate(np.asarray(image), angle, reshape=False, order=1, mode="grid-constant", cval=0.5)
    found = rotate(image, np.deg2rad(angle).item(), 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_angles_are_drawn_one_by_one():
    same = jnp.broadcast_to(IMAGES[:1], IMAGES.shape)
    turned = np.asarray(jax.jit(lambda k, x: random_rotation(k, x, 20.0))(KEY, same))
    assert len(np.unique(turned.reshape(64, -1), axis=0)) == 64
    np.testing.assert_allclose(random_rotation(KEY, IMAGES, 0.0), IMAGES, atol=1e-6)


def test_colours():
    np.testing.assert_array_equal(colour_jitter(KEY, IMAGES), IMAGES)
    jitter = lambda x, **s: jax.jit(lambda x: colour_jitter(KEY, x, **s))(x)  # noqa: E731
    half = 0.4 + 0.2 * IMAGES
    ratio = np.asarray(jitter(half, brightness=0.5) / half)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1, :1], ratio.shape), rtol=1e-5)
    assert 0.5 <= ratio.min() < 0.6 and 1.4 < ratio.max() <= 1.5
    contrasted = np.asarray(jitter(half, contrast=0.8))
    np.testing.assert_allclose(contrasted.mean((1, 2, 3)), half.mean((1, 2, 3)), rtol=1e-5)
    saturated = np.asarray(jitter(half, saturation=0.8))
    np.testing.assert_allclose(saturated.mean(-1), half.mean(-1), rtol=1e-5)
    assert (contrasted.std((1, 2, 3)) / np.asarray(half).std((1, 2, 3))).std() > 0.2
    assert jitter(IMAGES, brightness=1.0).max() <= 1


@pytest.mark.slow
def test_mixup_is_the_sum_written_out():
    images, targets = jax.jit(lambda k: mixup(k, IMAGES, TARGETS, 0.5))(KEY)
    partners = 0
    for i in range(64):
        # The share is found from the image, for the one partner that explains it.
        for j in range(64):
            direction = np.asarray(IMAGES[i] - IMAGES[j]).ravel()
            step = np.asarray(images[i] - IMAGES[j]).ravel()
            share = step @ direction / max(direction @ direction, 1e-12)
            if np.abs(step - share * direction).max() < 1e-5:
                if i != j:
                    np.testing.assert_allclose(targets[i], share * TARGETS[i] + (1 - share) * TARGETS[j], atol=1e-4)
                partners += 1
                break
    assert partners == 64
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)


@pytest.mark.slow
def test_cutmix_weighs_labels_by_pixels():
    coloured = jnp.broadcast_to(jnp.arange(64.0)[:, None, None, None], IMAGES.shape)
    labels = jnp.eye(64)
    images, targets = jax.jit(lambda k: cutmix(k, coloured, labels, 1.0))(KEY)
    for i in range(64):
        counts = np.bincount(np.asarray(images[i, :, :, 0], int).ravel(), minlength=64) / 48
        np.testing.assert_allclose(targets[i], counts, atol=1e-6)
        other = np.asarray(images[i, :, :, 0] != i)
        rows, columns = other.any(1), other.any(0)
        assert (other == np.outer(rows, columns)).all() and (np.diff(np.flatnonzero(rows)) == 1).all()
    mixed = np.asarray(targets.max(-1) < 1)
    assert mixed.mean() > 0.5


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_identity_and_bad_input(mix):
    images, targets = mix(KEY, IMAGES, TARGETS, 0.0)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(targets, TARGETS)
    with pytest.raises(ValueError, match="alpha"):
        mix(KEY, IMAGES, TARGETS, -1.0)
    with pytest.raises(ValueError, match="degrees"):
        random_rotation(KEY, IMAGES, -1.0)
    with pytest.raises(ValueError, match="contrast must lie"):
        colour_jitter(KEY, IMAGES, contrast=2.0)
