"""Padding and cropping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import cutout, random_crop, random_flip, random_shift

KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (300, 5, 4, 2))


def test_every_window_of_the_padded_image_is_as_likely():
    out, counts = np.asarray(jax.jit(lambda k, x: random_crop(k, x, 1, fill=7.0))(KEY, IMAGES)), np.zeros((3, 3), int)
    for image, cropped in zip(np.asarray(IMAGES), out, strict=True):
        padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=7.0)
        hits = [(i, j) for i in range(3) for j in range(3) if (padded[i : i + 5, j : j + 4] == cropped).all()]
        assert len(hits) == 1
        counts[hits[0]] += 1
    assert ((counts - 300 / 9) ** 2 / (300 / 9)).sum() < 26.1, "the 0.1 % point of chi² with 8 degrees of freedom"


@pytest.mark.parametrize("augment", [random_crop, random_shift, cutout])
def test_zero_is_the_identity_and_negative_is_refused(augment):
    np.testing.assert_array_equal(augment(KEY, IMAGES, 0), IMAGES)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        augment(KEY, IMAGES, -1)


@pytest.mark.parametrize(
    "augment",
    [lambda k, x: random_crop(k, x, 2), lambda k, x: random_shift(k, x, 2), random_flip, lambda k, x: cutout(k, x, 2)],
)
def test_keys_decide_and_kind_is_kept(augment):
    x = IMAGES.astype(jnp.bfloat16)
    out = augment(KEY, x)
    assert out.dtype == x.dtype and out.shape == x.shape
    np.testing.assert_array_equal(out, augment(KEY, x))
    assert (out != augment(jax.random.key(1), x)).any()
