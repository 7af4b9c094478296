"""Batches: permutations, the same for both pipelines, any process count and any restart; augmentations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import (
    chain,
    choose,
    cutout,
    evaluation_batches,
    in_memory,
    random_flip,
    random_shift,
    scale,
    standardize,
    train_rows,
    views,
)
from dlcore.data._pipeline import epoch_order

SPLIT = in_memory(
    {"image": np.arange(23 * 4, dtype=np.uint8).reshape(23, 2, 2, 1), "label": np.arange(23, dtype=np.int32)}
)
KEY = jax.random.key(0)


def labels(feed, count):
    fed = feed.next(count)
    return np.stack([feed.fetch(feed.resident, jax.tree.map(lambda x: x[i], fed))["label"] for i in range(count)])  # noqa: B023


def test_epochs_are_permutations_that_differ():
    orders = [epoch_order(3, epoch, 23) for epoch in range(4)]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert (epoch_order(3, 2, 23) == orders[2]).all() and (epoch_order(4, 2, 23) != orders[2]).any()
    rows = np.concatenate([train_rows(step, seed=3, size=23, batch_size=5) for step in range(4)])
    np.testing.assert_array_equal(rows, orders[0][:20])


@pytest.mark.parametrize("kind", ["resident", "grain"])
def test_batches_are_the_stated_rows_over_epochs(kind):
    feed = choose(SPLIT, seed=1, batch_size=6, kind=kind)
    expected = np.stack([train_rows(step, seed=1, size=23, batch_size=6) for step in range(8)])
    np.testing.assert_array_equal(np.concatenate([labels(feed, 3), labels(feed, 5)]), expected)


@pytest.mark.parametrize("kind", ["resident", "grain"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_share_the_same_global_batches(kind, count):
    feeds = [choose(SPLIT, seed=1, batch_size=6, kind=kind, process=(i, count)) for i in range(count)]
    together = np.concatenate([labels(feed, 5) for feed in feeds], axis=1)
    np.testing.assert_array_equal(together, labels(choose(SPLIT, seed=1, batch_size=6), 5))


@pytest.mark.parametrize("kind", ["resident", "grain"])
def test_seek_replays(kind):
    feed = choose(SPLIT, seed=1, batch_size=6, kind=kind)
    labels(feed, 4)
    position, rest = feed.position(), labels(feed, 6)
    other = choose(SPLIT, seed=1, batch_size=6, kind=kind)
    other.seek(position)
    np.testing.assert_array_equal(labels(other, 6), rest)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("batch", [4, 22, 24])
def test_evaluation_covers_every_row_once(batch, count):
    seen = []
    for process in range(count):
        for rows in evaluation_batches(SPLIT, batch_size=batch, process=(process, count)):
            assert rows["where"].shape == (batch // count,) == rows["label"].shape
            seen += rows["label"][rows["where"]].tolist()
    assert sorted(seen) == list(range(23))


def test_errors():
    for batch in (0, 24):
        with pytest.raises(ValueError, match="23 examples"):
            choose(SPLIT, seed=0, batch_size=batch)
    with pytest.raises(ValueError, match="multiple of 4"):
        choose(SPLIT, seed=0, batch_size=6, process=(0, 4))
    with pytest.raises(ValueError, match="resident"):
        choose(SPLIT, seed=0, batch_size=6, kind="stream")


def test_scaling():
    x = jnp.array([0, 8, 16], jnp.uint8).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(scale(x, 17)[0, 0, :, 0], [0, 0.5, 1])
    np.testing.assert_allclose(standardize(scale(x, 17), (0.5,), (0.25,))[0, 0, :, 0], [-2, 0, 2])


IMAGES = jax.random.normal(KEY, (64, 6, 5, 2))


def test_augmentations_are_the_identity_at_zero():
    for same in (random_shift(KEY, IMAGES, 0), random_flip(KEY, IMAGES, 0.0), cutout(KEY, IMAGES, 0)):
        np.testing.assert_array_equal(same, IMAGES)


def test_shift_moves_by_whole_pixels_and_repeats_the_edge():
    out, source, seen = np.asarray(random_shift(KEY, IMAGES, 2)), np.asarray(IMAGES), set()
    for image, moved in zip(source, out, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
        hits = [(i, j) for i in range(5) for j in range(5) if (padded[i : i + 6, j : j + 5] == moved).all()]
        assert hits
        seen.add(hits[0])
    assert len(seen) > 15, "nearly all 25 offsets occur among 64 images"


def test_flip_and_cutout():
    out = np.asarray(random_flip(KEY, IMAGES))
    flipped = np.array([(a == b[:, ::-1]).all() for a, b in zip(out, np.asarray(IMAGES), strict=True)])
    kept = np.array([(a == b).all() for a, b in zip(out, np.asarray(IMAGES), strict=True)])
    assert (flipped ^ kept).all() and 15 < flipped.sum() < 49
    holes = np.asarray(cutout(KEY, IMAGES, 3, fill=9.0)) == 9
    assert holes[..., 0].sum((1, 2)).min() >= 1 and holes[..., 0].sum((1, 2)).max() == 9
    both = chain(lambda k, x: random_shift(k, x, 1), random_flip)
    np.testing.assert_array_equal(both(KEY, IMAGES), jax.jit(both)(KEY, IMAGES))


def test_views_are_the_image_its_four_neighbours_and_their_mirror_images():
    seen, source = np.asarray(views(IMAGES, 2, flip=True)), np.asarray(IMAGES)
    padded = np.pad(source, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    places = [(2, 2), (4, 2), (0, 2), (2, 4), (2, 0)]
    for i, (row, column) in enumerate(places):
        moved = padded[:, row : row + 6, column : column + 5]
        np.testing.assert_array_equal(seen[i], moved)
        np.testing.assert_array_equal(seen[i + 5], moved[:, :, ::-1])
    assert views(IMAGES).shape == (1, *IMAGES.shape) and len(views(IMAGES, flip=True)) == 2
    with pytest.raises(ValueError, match="negative"):
        views(IMAGES, -1)
