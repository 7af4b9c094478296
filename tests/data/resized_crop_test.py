"""Random resized crops against torchvision's definition: cut out, then interpolate (lecture 11.4)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import map_coordinates

from dlcore.data import random_resized_crop
from dlcore.data._crop import crop_boxes, resized_crop

IMAGES = np.random.default_rng(0).random((4, 8, 6, 2)).astype(np.float32)


@pytest.mark.parametrize("box", [(2, 1, 4, 3), (0, 0, 8, 6), (3, 3, 5, 3), (7, 5, 1, 1), (0, 2, 8, 1)])
def test_a_box_of_whole_pixels_is_the_part_cut_out_and_enlarged(box):
    top, left, height, width = box
    found = resized_crop(jnp.asarray(IMAGES), jnp.array([[top / 8, left / 6, height / 8, width / 6]] * 4))
    places = [(np.arange(n) + 0.5) * part / n - 0.5 for n, part in ((8, height), (6, width))]
    for image, got in zip(IMAGES.astype(np.float64), np.asarray(found), strict=True):
        part = image[top : top + height, left : left + width]
        for c in range(2):
            grid = np.meshgrid(*places, indexing="ij")
            np.testing.assert_allclose(
                got[..., c], map_coordinates(part[..., c], grid, order=1, mode="nearest"), atol=1e-6
            )


def test_any_box_is_bilinear_between_the_centres_of_its_pixels():
    key = jax.random.key(1)
    boxes = np.asarray(crop_boxes(key, 4, (0.2, 0.9)), np.float64)
    found = np.asarray(random_resized_crop(key, IMAGES, (0.2, 0.9)))
    for n, (top, left, height, width) in enumerate(boxes):
        for i in range(8):
            for k in range(6):
                y = min(max(8 * top + (i + 0.5) * height - 0.5, 8 * top), 8 * (top + height) - 1)
                x = min(max(6 * left + (k + 0.5) * width - 0.5, 6 * left), 6 * (left + width) - 1)
                a, b = math.floor(y), math.floor(x)
                p, q = y - a, x - b
                at = lambda r, s, n=n: IMAGES[n, min(r, 7), min(s, 5)].astype(np.float64)  # noqa: E731
                expected = (1 - p) * ((1 - q) * at(a, b) + q * at(a, b + 1))
                expected += p * ((1 - q) * at(a + 1, b) + q * at(a + 1, b + 1))
                np.testing.assert_allclose(found[n, i, k], expected, atol=2e-6)


def test_boxes_have_the_areas_shapes_and_places_that_were_asked_for():
    top, left, height, width = np.asarray(
        crop_boxes(jax.random.key(0), 20_000, (0.1, 0.5), (3 / 4, 4 / 3)), np.float64
    ).T
    assert top.min() >= 0 and left.min() >= 0 and (top + height).max() <= 1 + 1e-6 and (left + width).max() <= 1 + 1e-6
    assert stats.kstest(height * width, stats.uniform(0.1, 0.4).cdf).pvalue > 0.01
    ratio = np.log(width / height)
    assert stats.kstest(ratio, stats.uniform(math.log(3 / 4), 2 * math.log(4 / 3)).cdf).pvalue > 0.01
    assert stats.kstest(top / (1 - height), "uniform").pvalue > 0.01
    assert stats.kstest(left / (1 - width), "uniform").pvalue > 0.01
    assert (
        abs(np.corrcoef([height * width, ratio, top / (1 - height), left / (1 - width)])[np.triu_indices(4, 1)]).max()
        < 0.03
    )


def test_a_side_is_never_longer_than_the_image():
    boxes = np.asarray(crop_boxes(jax.random.key(0), 100, (0.9, 1.0), (0.5, 2.0)))
    assert boxes[:, 2:].max() == 1 and (boxes[:, :2] + boxes[:, 2:]).max() <= 1


@pytest.mark.slow
def test_the_whole_image_is_the_identity_and_one_image_a_batch_of_one():
    key = jax.random.key(2)
    np.testing.assert_allclose(random_resized_crop(key, IMAGES, (1, 1), (1, 1)), IMAGES, atol=1e-6)
    one = random_resized_crop(key, IMAGES[0])
    assert one.shape == IMAGES[0].shape and (one != IMAGES[0]).any()
    half = random_resized_crop(key, jnp.asarray(IMAGES, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16 and jnp.isfinite(half).all()


def test_bad_bounds_are_refused():
    images = jnp.zeros((1, 4, 4, 1))
    for area, ratio, message in (
        ((0.0, 1.0), (1, 1), "area must be 0 < low"),
        ((0.5, 1.5), (1, 1), "area must be 0 < low"),
        ((0.9, 0.5), (1, 1), "area must be 0 < low"),
        ((0.5, 1.0), (0.0, 1), "ratio must be 0 < low"),
    ):
        with pytest.raises(ValueError, match=message):
            random_resized_crop(jax.random.key(0), images, area, ratio)
    with pytest.raises(ValueError, match="want real numbers"):
        random_resized_crop(jax.random.key(0), images.astype(jnp.uint8))
