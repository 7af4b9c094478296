"""How examples are set apart: fixed for good, disjoint, stratified where possible, and refused by name where not."""

import hashlib

import numpy as np
import pytest

from dlcore.data import DataError, load, stratified
from dlcore.data._source import channel_statistics, validation_count

RNG = np.random.default_rng(0)


def archive(path, labels, name="a.npz"):
    labels = np.asarray(labels)
    images = np.arange(len(labels) * 12, dtype=np.uint8).reshape(len(labels), 4, 3)
    np.savez(path / name, image=images, label=labels)
    return f"npz:{path / name}"


def test_digits_splits_never_change():
    data = load("digits")
    hashes = [hashlib.sha256(part.arrays["label"].tobytes()).hexdigest()[:8] for part in data[1:]]
    assert hashes == ["a8cd0b76", "4173eb52", "9ce5b942"]
    assert [part.arrays["label"].dtype for part in data[1:]] == [np.int32] * 3


def test_validation_leaves_training_only():
    full, small = load("digits", validation=0), load("digits", validation=300)
    assert full.spec.sizes == (1437, 0, 360) and small.spec.sizes == (1137, 300, 360)
    np.testing.assert_array_equal(full.test.arrays["image"], small.test.arrays["image"])
    rejoined = np.concatenate([small.train.arrays["image"], small.validation.arrays["image"]])
    assert sorted(map(bytes, rejoined)) == sorted(map(bytes, full.train.arrays["image"]))
    assert full.spec.mean != small.spec.mean, "statistics are those of the rows that are left"


@pytest.mark.parametrize("counts", [(50, 30, 20), (97, 2, 1), (2, 2, 2), (1, 1, 1), (40, 0, 2)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_stratified_parts(counts, share):
    labels = RNG.permutation(np.repeat(np.arange(3), counts))
    count = int(share * len(labels))
    rest, chosen = stratified(labels, count, seed=1)
    assert len(chosen) == count and sorted([*rest, *chosen]) == list(range(len(labels)))
    assert (np.diff(rest) > 0).all() and (np.diff(chosen) > 0).all()
    present = np.array([c for c in counts if c])
    if count and present.min() >= 2 and len(present) <= min(count, len(labels) - count):
        np.testing.assert_allclose(np.bincount(labels[chosen], minlength=3), share * np.array(counts), atol=1)


@pytest.mark.parametrize("size", [5, 6, 9, 12, 30])
def test_small_sets_with_many_classes(tmp_path, size):
    data = load(archive(tmp_path, np.arange(size) % 4))
    test = size // 5
    assert data.spec.sizes == (size - test - (size - test) // 10, (size - test) // 10, test)


def test_validation_counts():
    assert [validation_count("x", n, None) for n in (5, 1000, 60_000)] == [0, 100, 5000]
    for wanted in (-1, 10, 99):
        with pytest.raises(DataError, match=f"x: validation={wanted} of 10 training examples; use 0 to 9"):
            validation_count("x", 10, wanted)


@pytest.mark.parametrize("wanted", [-1, 1437])
def test_validation_out_of_range_names_the_set(wanted):
    with pytest.raises(DataError, match=f"digits: validation={wanted} of 1437"):
        load("digits", validation=wanted)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (-1 - np.arange(20) % 3, r"training label is -3 \(20 below 0\); labels must be 0 to c − 1"),
        (np.full(20, 10**9), "all 20 training labels are 1000000000: one class"),
        (np.full(20, 2**40), "does not fit 32 bits"),
        (np.arange(20) / 2, "want integers"),
        (np.arange(20).reshape(10, 2), "want integers"),
        (np.arange(3), "3 examples are too few"),
        (np.arange(0), "0 examples are too few"),
    ],
)
def test_labels_that_are_no_classes(tmp_path, labels, text):
    with pytest.raises(DataError, match=text):
        load(archive(tmp_path, labels))


def test_errors_are_one_line(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=np.zeros(3))
    for name in ("nothing", "npz:/nowhere", "idx:/nowhere", "folder:/nowhere", f"npz:{tmp_path / 'a.npz'}", "tfds:"):
        with pytest.raises(DataError) as caught:
            load(name, data_dir=tmp_path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_channel_statistics_against_numpy():
    images = RNG.integers(0, 17, (7, 3, 5, 2), dtype=np.uint8)
    mean, std = channel_statistics(images, 17)
    np.testing.assert_allclose(mean, (images / 16.0).mean((0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(std, (images / 16.0).std((0, 1, 2)), rtol=1e-13)
    constant = channel_statistics(np.zeros_like(images), 17)
    assert constant[0] == (0.0, 0.0) and min(constant[1]) > 0, "a dead channel can still be divided by"
