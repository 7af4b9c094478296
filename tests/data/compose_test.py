"""Composed pictures against a loop over pixels, and what they promise of splits and rows (lecture 25)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dlcore.data import compose_scenes, in_memory, load, row_keys, scene_split, scenes_of_batch

COMPOSE = jax.jit(compose_scenes, static_argnames=("side", "levels", "visible"))


def objects(count, number=3, side=6):
    """Objects whose brightness names them: rows of 200 + row in the inner part, 0 around."""
    images = np.zeros((count, number, side, side, 1), np.uint8)
    for i in range(count):
        for j in range(number):
            images[i, j, 1:-1, 1:-1] = 200 + (i * number + j) % 50
    return jnp.asarray(images), jnp.asarray(np.arange(count * number).reshape(count, number) % 4)


@pytest.mark.slow
def test_masks_are_exact_later_objects_cover_earlier_ones():
    images, labels = objects(16)
    found, masks = COMPOSE(jax.random.split(jax.random.key(0), 16), images, labels, side=16)
    assert found.shape == (16, 16, 16, 1) and found.dtype == jnp.uint8
    found, masks, count = np.asarray(found)[..., 0], np.asarray(masks), 0
    for i in range(16):
        for j in range(3):
            own = found[i] == 200 + i * 3 + j
            assert (masks[i][own] == labels[i, j] + 1).all()
            ys, xs = np.nonzero(own)
            count += len(ys) > 0
            assert len(ys) == 0 or (np.ptp(ys) < 4 and np.ptp(xs) < 4)
            assert j < 2 or len(ys) in (0, 16), "the last one is covered by none"
        # Whatever is no object is ground, and darker than any of them.
        assert ((masks[i] == 0) == (found[i] < 200)).all()
    assert 16 < count < 48, "the first is there unless covered, others sometimes"


@pytest.mark.parametrize("visible", [0.0, 0.5, 1.0])
def test_of_every_object_enough_is_seen(visible):
    images, labels = objects(60)
    found = np.asarray(COMPOSE(jax.random.split(jax.random.key(0), 60), images, labels, side=10, visible=visible)[0])
    # All bright pixels of an object are its own 4×4; one that is left out has none.
    seen = np.array([[(found[i] == images[i, j].max()).sum() for j in range(3)] for i in range(60)])
    assert (seen[:, 0] >= 16 * visible).all(), "the first is never left out for another's sake"
    shown = seen[seen > 0]
    assert (shown >= 16 * visible).all()
    assert visible == 1 or (shown < 16).any(), "pictures still overlap"
    assert visible or (shown < 8).any()
    assert len(shown) > 60, "others are there"


def test_a_picture_depends_on_its_own_key_alone():
    images, labels = objects(16)
    keys = row_keys(jax.random.key(1), jnp.arange(16))
    whole = COMPOSE(keys, images, labels, side=16)
    alone = COMPOSE(keys[3:4], images[3:4], labels[3:4], side=16)
    for a, b in zip(whole, alone, strict=True):
        np.testing.assert_array_equal(a[3:4], b)


def test_places_reach_every_corner_and_stay_inside():
    images, labels = objects(400, number=1)
    masks = COMPOSE(jax.random.split(jax.random.key(2), 400), images, labels, side=9)[1]
    assert ((masks > 0).sum((1, 2)) == 16).all(), "wholly inside"
    seen = (masks > 0).any(0)
    assert seen[1:-1, 1:-1].all() and not seen[0].any() and not seen[:, -1].any()


@pytest.mark.slow
def test_objects_of_a_batch_are_its_rows():
    images, labels = (x[:, 0] for x in objects(8))
    compose = jax.jit(lambda *args: scenes_of_batch(*args, objects=3, side=14, levels=256))
    found, masks = compose(jax.random.key(0), images, labels)
    found = np.asarray(found)[..., 0]
    brightness = {200 + 3 * i: int(labels[i]) + 1 for i in range(8)}
    for i in range(8):
        shown = {int(v) for v in np.unique(found[i][np.asarray(masks[i]) > 0])}
        assert shown <= {200 + 3 * ((i + j) % 8) for j in range(3)} and shown
        assert all((np.asarray(masks[i])[found[i] == v] == brightness[v]).all() for v in shown)


@pytest.mark.slow
def test_splits_are_fixed_by_row_and_have_only_their_own_objects():
    images, labels = (np.asarray(x[:, 0]) for x in objects(13))
    split = in_memory({"image": images, "label": labels.astype(np.int32)})
    whole = scene_split(split, seed=3, objects=3, side=16, levels=256)
    parts = scene_split(split, seed=3, objects=3, side=16, levels=256, most=5)
    assert whole.size == 13 and whole.arrays["mask"].dtype == np.uint8
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(values, parts.arrays[name])
    assert (scene_split(split, seed=4, objects=3, side=16, levels=256).arrays["image"] != whole.arrays["image"]).any()
    bright = whole.arrays["image"][..., 0][whole.arrays["mask"] > 0]
    assert set(np.unique(bright)) <= set(np.unique(images)) - {0}


def test_digits_train_and_test_objects_are_disjoint():
    data = load("digits")
    rows = [{x.tobytes() for x in split.arrays["image"]} for split in (data.train, data.validation, data.test)]
    assert not rows[0] & rows[2] and not rows[0] & rows[1]


def test_a_canvas_smaller_than_its_objects_is_refused():
    images, labels = objects(2)
    with pytest.raises(ValueError, match="objects of 6×6 do not fit a canvas of side 5"):
        compose_scenes(jax.random.split(jax.random.key(0), 2), images, labels, side=5)


def test_enlarged_objects_are_composed_as_pillow_enlarges_them():
    images = jnp.asarray(np.random.default_rng(0).integers(60, 256, (4, 1, 5, 4, 1)).astype(np.uint8))
    labels = jnp.zeros((4, 1), jnp.int32)
    found, masks = compose_scenes(jax.random.split(jax.random.key(3), 4), images, labels, side=16, enlarge=3)
    for picture, mask, small in zip(np.asarray(found), np.asarray(masks), np.asarray(images), strict=True):
        ys, xs = np.nonzero(mask)
        assert len(ys) == 15 * 12 and (np.ptp(ys), np.ptp(xs)) == (14, 11)
        wanted = Image.fromarray(small[0, ..., 0]).resize((12, 15), Image.Resampling.BILINEAR)
        difference = picture[ys, xs, 0].reshape(15, 12).astype(int) - np.asarray(wanted, int)
        assert abs(difference).max() <= 1
    with pytest.raises(ValueError, match="visible"):
        compose_scenes(jax.random.split(jax.random.key(3), 4), images, labels, side=16, visible=1.5)
    with pytest.raises(ValueError, match="enlarge"):
        compose_scenes(jax.random.split(jax.random.key(3), 4), images, labels, side=16, enlarge=0)
