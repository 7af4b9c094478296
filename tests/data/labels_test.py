"""Arrays of images and labels: what is used, and the fix for what is not."""

import re

import numpy as np
import pytest

from dlcore.data import DataError, load, stratified

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 6, 5), dtype=np.uint8)
LABELS = np.arange(60) % 3


def archive(path, **arrays):
    np.savez(path / "a.npz", **arrays)
    return f"npz:{path / 'a.npz'}"


def with_one(value):
    labels = LABELS.copy()
    labels[7] = value
    return labels


SHAPES = {
    (60, 3, 16, 16): r"channels first; save images\.transpose\(0, 2, 3, 1\)",
    (60, 1, 28, 28): r"channels first; save images\.transpose\(0, 2, 3, 1\)",
    (60, 8, 8, 4): "4 channels; want 1 or 3",
    (60, 8, 8, 2): "2 channels; want 1 or 3",
    (60, 64): r"want \[n, h, w\]",
    (60, 2, 8, 8, 3): r"want \[n, h, w\]",
    (60,): r"want \[n, h, w\]",
    (60, 0, 8): "without a pixel",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_that_are_no_images(tmp_path, shape):
    with pytest.raises(DataError, match=SHAPES[shape]):
        load(archive(tmp_path, image=np.zeros(shape, np.uint8), label=LABELS))


@pytest.mark.parametrize("shape", [(60, 8, 8), (60, 8, 8, 1), (60, 8, 8, 3), (60, 3, 8, 3), (60, 1, 1)])
def test_shapes_that_are(tmp_path, shape):
    expected = (*shape[1:], 1)[:3] if len(shape) == 3 else shape[1:]
    assert load(archive(tmp_path, image=np.zeros(shape, np.uint8), label=LABELS)).spec.shape == expected


DTYPES = {
    "unit": (IMAGES / 255.0, r"want uint8; save \(images \* 255\)\.round\(\)\.astype\(np\.uint8\)"),
    "half": ((IMAGES / 255.0).astype(np.float16), r"save \(images \* 255\)"),
    "levels": (IMAGES.astype(np.float32), r"save images\.round\(\)\.astype\(np\.uint8\)"),
    "signed": (IMAGES / 127.5 - 1, "values are -1 to 1: scale to 0 … 255"),
    "wide": (IMAGES.astype(np.int64), r"save images\.astype\(np\.uint8\)"),
    "deep": (IMAGES.astype(np.uint16) * 257, "values are .* scale to 0 … 255"),
    "bool": (IMAGES > 127, r"save images\.astype\(np\.uint8\) \* 255"),
    "nan": (np.where(IMAGES > 127, np.nan, 0.5), "some are NaN or infinite"),
    "inf": (np.where(IMAGES > 127, np.inf, 0.5), "some are NaN or infinite"),
    "complex": (IMAGES.astype(complex), "want uint8"),
}


@pytest.mark.parametrize("kind", DTYPES)
def test_images_that_are_no_bytes(tmp_path, kind):
    images, text = DTYPES[kind]
    with pytest.raises(DataError, match=text):
        load(archive(tmp_path, image=images, label=LABELS))


NUMBERS = {
    "from one": (np.arange(60) % 26 + 1, "labels are 1 to 26; labels must be 0 to 25: subtract 1"),
    "from seven": (LABELS + 7, "labels are 7 to 9; labels must be 0 to 2: subtract 7"),
    "ends": (
        LABELS % 2 * 255,
        r"2 numbers from 0 to 255, none is 1; .* save np\.unique\(labels, return_inverse=True\)",
    ),
    "one wrong": (with_one(60000), r"from 0 to 60000 \(only one example has 60000: a mistake\?\), none is 3"),
    "gap": (np.where(LABELS == 1, 5, LABELS), "3 numbers from 0 to 5, none is 1"),
    "unknown": (with_one(-1), r"label is -1 \(1 below 0\)"),
    "one class": (LABELS * 0, "all 60 training labels are 0: one class; add examples of a second one"),
    "one other class": (LABELS * 0 + 4, "all 60 training labels are 4: one class"),
    "soft rows": (np.eye(3)[LABELS] * 0.9, r"save labels\.argmax\(1\)"),
    "many-hot": (np.ones((60, 3), int), r"want integers \[n\], one class per image"),
    "fractions": (LABELS + 0.5, "want integers"),
    "column from one": (LABELS[:, None] + 1, "labels are 1 to 3; labels must be 0 to 2: subtract 1"),
    "nan": (np.where(LABELS == 1, np.nan, LABELS), "some are NaN"),
    "one name": (np.array(["cat"] * 60), "one class"),
    "huge": (LABELS.astype(np.uint64) + 2**63, "does not fit 32 bits"),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("given", [False, True])
def test_labels_that_are_no_class_numbers(tmp_path, kind, given):
    labels, text = NUMBERS[kind]
    arrays = {"image": IMAGES, "label": labels}
    if given:
        arrays = {"x_train": IMAGES, "y_train": labels, "x_test": IMAGES[:9], "y_test": labels[:9]}
    with pytest.raises(DataError, match=text):
        load(archive(tmp_path, **arrays))


ANIMALS = ("cat", "dog", "owl")
CONVERTED = {
    "texts": (
        np.array(ANIMALS)[LABELS],
        ANIMALS,
        "labels are texts: 3 classes in the order of their names, cat, dog, owl",
    ),
    "bytes": (np.array(ANIMALS).astype("S")[LABELS], ANIMALS, "labels are texts"),
    "reals": (LABELS.astype(np.float32), ("0", "1", "2"), "whole numbers stored as float32, and taken as integers"),
    "one-hot": (np.eye(3, dtype=int)[LABELS], ("0", "1", "2"), r"one-hot rows \[n, 3\]: the place of the 1"),
    "one-hot reals": (np.eye(3)[LABELS], ("0", "1", "2"), "one-hot rows"),
    "one-hot booleans": (np.eye(3, dtype=bool)[LABELS], ("0", "1", "2"), "one-hot rows"),
    "column": (LABELS[:, None], ("0", "1", "2"), r"column \[n, 1\], of which the values are taken"),
    "column of texts": (np.array(ANIMALS)[LABELS][:, None], ANIMALS, "column"),
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_labels_are_converted_and_it_is_said(tmp_path, kind):
    labels, names, text = CONVERTED[kind]
    given = {"x_train": IMAGES[:40], "y_train": labels[:40], "x_test": IMAGES[40:], "y_test": labels[40:]}
    data = load(archive(tmp_path, **given), validation=0)
    assert data.spec.class_names == names and data.spec.classes == 3
    np.testing.assert_array_equal(data.train.arrays["label"], LABELS[:40])
    np.testing.assert_array_equal(data.test.arrays["label"], LABELS[40:])
    assert data.test.arrays["label"].dtype == np.int32
    assert re.search(text, data.spec.notes[0])
    whole = load(archive(tmp_path, image=IMAGES, label=labels))
    assert whole.spec.class_names == names and whole.spec.notes == data.spec.notes


def test_true_and_false_are_two_classes(tmp_path):
    data = load(archive(tmp_path, image=IMAGES, label=LABELS == 1))
    assert data.spec.class_names == ("false", "true")
    assert sum(part.arrays["label"].sum() for part in data[1:]) == 20


def test_a_class_that_training_rows_lack_is_one_of_the_columns(tmp_path):
    """One-hot rows say how many classes there are, whichever occur."""
    data = load(archive(tmp_path, image=IMAGES, label=np.eye(5)[LABELS]))
    assert data.spec.classes == 5 and "2 of 5 classes have no training example" in data.spec.notes[-1]


def test_a_text_that_no_training_example_has_is_refused(tmp_path):
    names, other = np.array(ANIMALS)[LABELS], np.array(["cat", "emu"] * 5)
    with pytest.raises(DataError, match="test labels have 'emu', which no training example has"):
        load(archive(tmp_path, x_train=IMAGES, y_train=names, x_test=IMAGES[:10], y_test=other))
    with pytest.raises(DataError, match=r"test labels are int64 .* and training labels texts"):
        load(archive(tmp_path, x_train=IMAGES, y_train=names, x_test=IMAGES[:10], y_test=LABELS[:10]))


def test_images_alone_have_no_classes(tmp_path):
    data = load(archive(tmp_path, image=IMAGES, extra=LABELS))
    assert data.spec.classes is None and data.spec.class_names == () and data.spec.sizes == (44, 4, 12)
    assert data.spec.notes[-1] == "there are no labels: image alone can train systems that need none"
    assert "1 of 2 arrays are not used: extra" in data.spec.notes
    seen = np.concatenate([part.arrays["image"] for part in data[1:]])
    assert all(set(part.arrays) == {"image"} for part in data[1:])
    np.testing.assert_array_equal(np.sort(seen.reshape(60, -1), 0), np.sort(IMAGES.reshape(60, -1), 0))
    split = load(archive(tmp_path, train_images=IMAGES[:40], test_images=IMAGES[40:55], x_val=IMAGES[55:]))
    assert split.spec.sizes == (40, 5, 15)
    np.testing.assert_array_equal(split.test.arrays["image"][..., 0], IMAGES[40:55])
    with pytest.raises(DataError, match="the test split has no examples"):
        load(archive(tmp_path, x_train=IMAGES, x_test=IMAGES[:0]))


@pytest.mark.parametrize("labels", [np.arange(20, dtype=np.uint8) % 26 + 1, np.arange(20, dtype=np.uint8) % 2 * 255])
def test_idx_labels_too(tmp_path, labels):
    for prefix in ("train", "t10k"):
        for kind, values in (("images-idx3", IMAGES[:20]), ("labels-idx1", labels)):
            header = bytes((0, 0, 8, values.ndim)) + b"".join(n.to_bytes(4, "big") for n in values.shape)
            (tmp_path / f"{prefix}-{kind}-ubyte").write_bytes(header + values.tobytes())
    (tmp_path / "extra-labels-idx1-ubyte.gz").write_bytes(b"")
    with pytest.raises(DataError, match="labels must be 0 to"):
        load(f"idx:{tmp_path}")


def test_other_idx_files_are_said(tmp_path):
    for prefix in ("train", "t10k", "extra"):
        for kind, values in (("images-idx3", IMAGES), ("labels-idx1", LABELS.astype(np.uint8))):
            header = bytes((0, 0, 8, values.ndim)) + b"".join(n.to_bytes(4, "big") for n in values.shape)
            (tmp_path / f"{prefix}-{kind}-ubyte").write_bytes(header + values.tobytes())
    assert load(f"idx:{tmp_path}").spec.notes == (
        "2 other IDX files are not used: extra-images-idx3-ubyte, extra-labels-idx1-ubyte",
    )


NAMES = [("x_{}", "y_{}"), ("image_{}", "label_{}"), ("images_{}", "labels_{}"), ("{}_images", "{}_labels")]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("word", ["val", "valid", "validation"])
def test_validation_arrays_are_the_validation_split(tmp_path, names, word):
    parts = {"train": slice(0, 40), "test": slice(40, 50), word: slice(50, 60)}
    arrays = {names[0].format(split): IMAGES[rows] for split, rows in parts.items()}
    arrays |= {names[1].format(split): LABELS[rows] for split, rows in parts.items()}
    data = load(archive(tmp_path, **arrays))
    assert data.spec.sizes == (40, 10, 10) and data.spec.notes == ()
    np.testing.assert_array_equal(data.validation.arrays["image"][..., 0], IMAGES[50:])
    np.testing.assert_array_equal(data.test.arrays["label"], LABELS[40:50])
    asked = load(archive(tmp_path, **arrays), validation=4)
    assert asked.spec.sizes == (36, 4, 10) and "not used, as validation=4" in asked.spec.notes[0]


def test_training_and_validation_arrays_only(tmp_path):
    data = load(archive(tmp_path, x_train=IMAGES[:40], y_train=LABELS[:40], x_val=IMAGES[40:], y_val=LABELS[40:]))
    assert data.spec.sizes == (32, 20, 8)
    assert data.spec.notes == ("there are no test arrays: a fixed fifth (8 of 40) of x_train is the test split",)


def test_arrays_that_are_not_used_are_said(tmp_path):
    data = load(archive(tmp_path, image=IMAGES, label=LABELS, name=LABELS, x_val=IMAGES))
    assert data.spec.notes == ("2 of 4 arrays are not used: name, x_val",)
    two = {f"{kind}_{word}": values for word in ("val", "valid") for kind, values in (("x", IMAGES), ("y", LABELS))}
    with pytest.raises(DataError, match="two validation splits, x_val and x_valid"):
        load(archive(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS, **two))


@pytest.mark.parametrize("split", ["test", "val"])
def test_other_splits_must_match(tmp_path, split):
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:9], "y_test": LABELS[:9]}
    arrays |= {"x_val": IMAGES[:9], "y_val": LABELS[:9]}
    long = {"test": "test", "val": "validation"}[split]
    with pytest.raises(DataError, match=f"a {long} label is 3; labels must be 0 to 2"):
        load(archive(tmp_path, **(arrays | {f"y_{split}": LABELS[:9] + 1})))
    with pytest.raises(DataError, match=rf"training images are \(6, 5, 1\), {long} images \(5, 5, 1\)"):
        load(archive(tmp_path, **(arrays | {f"x_{split}": IMAGES[:9, :5]})))
    with pytest.raises(DataError, match="8 images but 9 labels"):
        load(archive(tmp_path, **(arrays | {f"x_{split}": IMAGES[:8]})))


@pytest.mark.parametrize("counts", [(50, 30, 1), (1, 1, 1, 9), (2,) * 20, (3, 2, 1, 1, 1, 1, 1)])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_no_class_leaves_the_training_split_whole(counts, share):
    labels = RNG.permutation(np.repeat(np.arange(len(counts)), counts))
    count = int(share * len(labels))
    rest, chosen = stratified(labels, count, seed=3)
    assert sorted([*rest, *chosen]) == list(range(len(labels))) and len(chosen) == count
    if count <= len(labels) - len(counts):
        assert set(labels[rest]) == set(range(len(counts)))
