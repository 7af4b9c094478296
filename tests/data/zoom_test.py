"""Zooming against scipy's interpolation at the same places (lecture 11.4)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from dlcore.data import random_zoom


def test_pixels_come_from_where_they_should():
    key, images = jax.random.key(3), jax.random.uniform(jax.random.key(1), (4, 6, 5, 2))
    found = random_zoom(key, images, 0.3, 2.0, fill=0.25)
    axes = []
    for axis, size in ((1, 6), (2, 5)):
        factor, move = np.asarray(jax.random.uniform(jax.random.fold_in(key, axis), (2, 4), minval=-1.0))
        middle = (size - 1) / 2
        axes.append((1 + 0.3 * factor[:, None]) * (np.arange(size) - middle) + 2 * move[:, None] + middle)
    assert np.ptp(axes[0], axis=1).min() < 5 < np.ptp(axes[0], axis=1).max()
    for i, image in enumerate(np.asarray(images)):
        places = np.meshgrid(axes[0][i], axes[1][i], indexing="ij")
        for c in range(2):
            expected = map_coordinates(image[..., c], places, order=1, mode="grid-constant", cval=0.25)
            np.testing.assert_allclose(found[i, :, :, c], expected, atol=1e-5)


@pytest.mark.slow
def test_nothing_changes_at_strength_zero_and_one_image_is_a_batch_of_one():
    images = jax.random.uniform(jax.random.key(1), (3, 6, 5, 1))
    np.testing.assert_allclose(random_zoom(jax.random.key(0), images, 0.0), images, atol=1e-6)
    one = random_zoom(jax.random.key(0), images[0], 0.2, 1.0)
    np.testing.assert_array_equal(one, random_zoom(jax.random.key(0), images[:1], 0.2, 1.0)[0])


def test_bad_strengths_are_refused():
    images = jnp.zeros((1, 4, 4, 1))
    for call, message in (
        (lambda: random_zoom(jax.random.key(0), images, -0.1), "zoom"),
        (lambda: random_zoom(jax.random.key(0), images, 1.5), "zoom"),
        (lambda: random_zoom(jax.random.key(0), images, 0.1, -1.0), "pixels"),
        (lambda: random_zoom(jax.random.key(0), images.astype(jnp.uint8), 0.1), "want real numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
