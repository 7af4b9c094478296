"""Parts of a labelled data set: some classes, a few examples of each (lecture 18)."""

import numpy as np
import pytest

from dlcore.data import DataError, few_rows, load, only_classes


def test_only_classes_are_numbered_anew():
    data = load("digits")
    part = only_classes(data, (7, 2))
    assert part.spec.class_names == ("7", "2") and part.spec.classes == 2
    for whole, some, size in zip(data[1:], part[1:], part.spec.sizes, strict=True):
        own = {k: whole.arrays["image"][whole.arrays["label"] == k] for k in (7, 2)}
        assert some.size == size == len(own[7]) + len(own[2])
        for number, k in enumerate((7, 2)):
            np.testing.assert_array_equal(some.arrays["image"][some.arrays["label"] == number], own[k])


def test_classes_that_cannot_be_are_refused():
    data = load("digits")
    for classes in ((0, 0), (3, 10), (-1, 2)):
        with pytest.raises(DataError, match="must be different ones of 0 … 9"):
            only_classes(data, classes)
    with pytest.raises(DataError, match="classes"):
        only_classes(load("two_moons"), (0, 5))


def test_few_rows_are_balanced_nested_and_a_function_of_the_seed():
    labels = np.random.default_rng(0).integers(0, 4, 200)
    few, more = few_rows(labels, 3, seed=1), few_rows(labels, 8, seed=1)
    assert np.bincount(labels[few]).tolist() == [3] * 4 and len(set(more)) == 32
    assert set(few) <= set(more)
    assert set(few_rows(labels, 3, seed=2)) != set(few)
    with pytest.raises(ValueError, match="use 1 to"):
        few_rows(labels, 500, seed=0)
