"""Data sets: sizes, splits, statistics, and every way a file can be wrong."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from dlcore.data import DataError, load
from dlcore.data._files import DEBIAN, read_idx
from dlcore.data.toy import SETS

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 5, 4), dtype=np.uint8)
LABELS = np.arange(60, dtype=np.uint8) % 3


def write_idx(path, array, *, zipped=False):
    data = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if zipped else data)


@pytest.fixture
def idx_folder(tmp_path):
    for prefix, rows, zipped in (("train", slice(0, 45), True), ("t10k", slice(45, 60), False)):
        suffix = ".gz" if zipped else ""
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{suffix}", IMAGES[rows], zipped=zipped)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{suffix}", LABELS[rows], zipped=zipped)
    return tmp_path


def everything(data):
    parts = [split.read(np.arange(split.size)) for split in (data.train, data.validation, data.test)]
    return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}


def test_digits():
    data, original = load("digits"), load_digits()
    assert data.spec.sizes == (1257, 180, 360) and data.spec.shape == (8, 8, 1) and data.spec.levels == 17
    rows = everything(data)
    have = sorted(zip(map(bytes, rows["image"]), rows["label"].tolist(), strict=True))
    want = sorted(zip(map(bytes, original.images.astype(np.uint8)), original.target.tolist(), strict=True))
    assert have == want, "every digit exactly once"
    for split in (data.train, data.validation, data.test):
        counts = np.bincount(split.arrays["label"], minlength=10) / split.size
        np.testing.assert_allclose(counts, np.bincount(original.target) / 1797, atol=0.01)
    np.testing.assert_array_equal(load("digits").test.arrays["label"], data.test.arrays["label"])


def test_statistics_are_those_of_the_training_split():
    data = load("digits")
    pixels = data.train.arrays["image"] / 16
    np.testing.assert_allclose(data.spec.mean, pixels.mean(), rtol=1e-12)
    np.testing.assert_allclose(data.spec.std, pixels.std(), rtol=1e-12)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist():
    data = load("fashion_mnist", validation=0)
    assert data.spec.sizes == (60000, 0, 10000) and data.spec.classes == 10
    np.testing.assert_allclose((data.spec.mean[0], data.spec.std[0]), (0.28604, 0.35302), atol=1e-5)
    assert (np.bincount(data.train.arrays["label"]) == 6000).all()
    assert load("fashion_mnist").spec.sizes == (55000, 5000, 10000)


def test_idx_round_trip(idx_folder):
    data = load(f"idx:{idx_folder}", validation=9)
    assert data.spec.sizes == (36, 9, 15) and data.spec.shape == (5, 4, 1) and data.spec.classes == 3
    np.testing.assert_array_equal(data.test.arrays["image"][..., 0], IMAGES[45:])
    rows = everything(data)
    assert sorted(map(bytes, rows["image"])) == sorted(map(bytes, IMAGES))


def test_fashion_mnist_from_data_dir(idx_folder, tmp_path):
    nested = tmp_path / "sets"
    nested.mkdir()
    (nested / "fashion_mnist").symlink_to(idx_folder)
    assert load("fashion_mnist", data_dir=nested).spec.class_names[0] == "T-shirt"
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist"):
        load("fashion_mnist", data_dir=tmp_path / "nowhere")


@pytest.mark.parametrize("keep", [0, 3, 7, 15, 16, 100])
@pytest.mark.parametrize("zipped", [False, True])
def test_truncated_idx(tmp_path, keep, zipped):
    path = tmp_path / ("x.gz" if zipped else "x")
    write_idx(path, IMAGES, zipped=zipped)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=str(path)):
        read_idx(path)


def test_missing_and_mismatched_idx(idx_folder):
    write_idx(idx_folder / "t10k-labels-idx1-ubyte", LABELS[:10])
    with pytest.raises(DataError, match="15 test images but 10 labels"):
        load(f"idx:{idx_folder}")
    (idx_folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        load(f"idx:{idx_folder}")
    with pytest.raises(DataError, match="IDX"):
        load("idx:/nowhere")


def test_labels_out_of_range(idx_folder):
    labels = LABELS[45:].copy()
    labels[3] = 7
    write_idx(idx_folder / "t10k-labels-idx1-ubyte", labels)
    with pytest.raises(DataError, match="test label is 7; labels must be 0 to 2"):
        load(f"idx:{idx_folder}")


@pytest.mark.parametrize("names", [("image", "label"), ("x", "y")])
def test_npz_one_pair(tmp_path, names):
    np.savez(tmp_path / "a.npz", **dict(zip(names, (IMAGES, LABELS), strict=True)))
    data = load(f"npz:{tmp_path / 'a.npz'}")
    assert data.spec.sizes == (44, 4, 12) and data.spec.shape == (5, 4, 1)
    assert sorted(map(bytes, everything(data)["image"])) == sorted(map(bytes, IMAGES))


def test_npz_given_split(tmp_path):
    colour = RNG.integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=colour[:20], y_train=LABELS[:20], x_test=colour[20:], y_test=LABELS[20:30])
    data = load(f"npz:{tmp_path / 'a.npz'}", validation=0)
    assert data.spec.sizes == (20, 0, 10) and len(data.spec.mean) == 3
    np.testing.assert_array_equal(data.train.arrays["image"], colour[:20])


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"image": IMAGES / 255.0, "label": LABELS}, "want uint8"),
        ({"image": IMAGES, "label": LABELS / 2}, "want integers"),
        ({"image": IMAGES, "label": LABELS[:9]}, "60 images but 9 labels"),
        ({"image": IMAGES, "label": LABELS.astype(int) - 1}, "label is -1"),
        ({"image": IMAGES, "label": np.array([None] * 60, dtype=object)}, "Python objects"),
        ({"pictures": IMAGES}, "needs image and label"),
    ],
)
def test_bad_npz(tmp_path, arrays, text):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=text):
        load(f"npz:{tmp_path / 'a.npz'}")


def test_truncated_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, image=IMAGES, label=LABELS)
    whole = path.read_bytes()
    for keep in (0, 10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:keep])
        with pytest.raises(DataError, match=str(path)):
            load(f"npz:{path}")
    with pytest.raises(DataError, match="does not exist"):
        load(f"npz:{tmp_path / 'none.npz'}")


@pytest.fixture
def image_folder(tmp_path):
    for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        folder = tmp_path / f"class {label}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return tmp_path


def test_folder(image_folder):
    data = load(f"folder:{image_folder}", validation=6)
    assert data.spec.sizes == (42, 6, 12) and data.spec.class_names == ("class 0", "class 1", "class 2")
    rows = everything(data)
    have = sorted(zip(map(bytes, rows["image"]), rows["label"].tolist(), strict=True))
    assert have == sorted(zip(map(bytes, IMAGES), LABELS.tolist(), strict=True))
    assert (np.bincount(data.test.arrays["label"]) == 4).all()


def test_folder_read_row_by_row_equals_in_memory(image_folder, monkeypatch):
    whole = load(f"folder:{image_folder}", validation=6)
    monkeypatch.setattr("dlcore.data._folder.IN_MEMORY_BYTES", 0)
    lazy = load(f"folder:{image_folder}", validation=6)
    assert lazy.train.arrays is None and lazy.spec.sizes == whole.spec.sizes
    for a, b in zip(whole[1:], lazy[1:], strict=True):
        rows = np.array([3, 0, 5])
        for name, value in a.read(rows).items():
            np.testing.assert_array_equal(value, b.read(rows)[name])


def test_bad_folders(image_folder, tmp_path):
    victim = image_folder / "class 1" / "01.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"01\.png cannot be decoded"):
        load(f"folder:{image_folder}")
    Image.fromarray(IMAGES[1].repeat(2, 0)).save(victim)
    with pytest.raises(
        DataError, match=r"1 of 60 images are not 4×5 \(the first: .*01\.png, 4×10\); pass --image_size=4"
    ):
        load(f"folder:{image_folder}")
    victim.write_bytes(whole)
    (image_folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no image"):
        load(f"folder:{image_folder}")
    with pytest.raises(DataError, match="not a folder"):
        load("folder:/nowhere")


@pytest.mark.parametrize("name", SETS)
def test_synthetic_sets(name):
    data = load(name)
    points = data.train.arrays["point"]
    assert points.shape == (10000, 2) and points.dtype == np.float32 and np.abs(points).max() < 6
    assert len(np.unique(data.train.arrays["label"])) == data.spec.classes
    np.testing.assert_array_equal(load(name).test.arrays["point"], data.test.arrays["point"])
    assert not set(map(bytes, points)) & set(map(bytes, data.test.arrays["point"]))


@pytest.mark.parametrize(("name", "near"), [("digit", "digits"), ("fashion", "fashion_mnist"), ("moons", "two_moons")])
def test_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(DataError, match=f"did you mean '{near}'"):
        load(name)


def test_the_first_rows_are_at_most_all():
    split = load("digits").test
    np.testing.assert_array_equal(split.first(3)["label"], split.all()["label"][:3])
    assert len(split.first(10**6)["label"]) == split.size


def test_a_system_says_what_the_data_lack():
    digits, points = load("digits").spec, load("two_moons").spec
    for spec in (digits, points):
        spec.need("classify", labels=True)
    digits.need("hashing", images=True, labels=True)
    with pytest.raises(ValueError, match="vae needs images, and two_moons has none; use digits"):
        points.need("vae", images=True)
    with pytest.raises(ValueError, match="vae needs images, and digits has none"):
        digits._replace(levels=None).need("vae", images=True)
    unlabelled = digits._replace(classes=None)
    unlabelled.need("vae", images=True)
    with pytest.raises(ValueError, match="bagging needs labels, and digits has none"):
        unlabelled.need("bagging", labels=True)
    for spec in (unlabelled, points):
        with pytest.raises(ValueError, match="hashing needs labelled images"):
            spec.need("hashing", images=True, labels=True)


@pytest.mark.parametrize("kind", ["folder", "segments", "idx", "npz", "tfds"])
def test_a_source_without_a_name_is_not_the_folder_at_hand(kind):
    for name in (f"{kind}:", f"{kind}: "):
        with pytest.raises(DataError, match="names no data"):
            load(name)
