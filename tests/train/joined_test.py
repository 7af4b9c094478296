"""Several splits read as one, and images as rows of pixels."""

import numpy as np

from dlcore.data import in_memory
from dlcore.train import joined, pixel_rows


def split(start, count):
    rows = np.arange(start, start + count)
    return in_memory({"image": (rows[:, None, None, None] * np.ones((1, 1, 2, 1))).astype(np.uint8), "label": rows})


def test_rows_of_several_splits_come_in_any_order():
    whole = joined(split(0, 3), split(3, 0), split(3, 4))
    rows = np.array([6, 0, 3, 2, 0])
    assert whole.size == 7
    np.testing.assert_array_equal(whole.read(rows)["label"], rows)
    np.testing.assert_array_equal(whole.read(rows)["image"][:, 0, 1, 0], rows)
    np.testing.assert_array_equal(whole.read(np.array([5]))["label"], [5])


def test_images_become_rows_the_last_partial_batch_included():
    parts = list(pixel_rows(split(0, 5), 5, most=2))
    assert [len(part) for part in parts] == [2, 2, 1]
    np.testing.assert_allclose(np.concatenate(parts), np.arange(5)[:, None] / 4 * np.ones((1, 2)))
