"""Data sets by name, as splits that can be read by row.

Every name gives the same `Data`; a split is read by index, so that any order, any number of processes and any
restart see the same rows. Problems with files are `DataError`s of one line that say what to do.
"""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

Rows = dict[str, np.ndarray]

MOST_CLASSES = 2**16


class DataError(ValueError):
    """A data set that is missing, damaged or not what it should be."""


class DataSpec(NamedTuple):
    """What a system must know about its data."""

    name: str
    shape: tuple[int, ...]
    """(H, W, C) of an image, (D,) of a point."""
    levels: int | None
    """Grey levels per channel, 0 … levels − 1; None for real values."""
    classes: int | None
    class_names: tuple[str, ...]
    sizes: tuple[int, int, int]
    """Examples in train, validation and test."""
    mean: tuple[float, ...]
    """Per channel over the training split, pixels scaled to [0, 1]."""
    std: tuple[float, ...]


class Split(NamedTuple):
    """Examples that are read by row."""

    size: int
    read: Callable[[np.ndarray], Rows]
    """Row numbers [n] to `image` uint8 [n, h, w, c] (or `point` float32 [n, d]) and `label` int32 [n]."""
    arrays: Mapping[str, np.ndarray] | None = None
    """The whole split, when it is held in memory."""

    def all(self) -> Rows:
        """Every row, in order."""
        return dict(self.arrays) if self.arrays is not None else self.read(np.arange(self.size))


class Data(NamedTuple):
    """The three splits; only `train` may inform a model's parameters or statistics."""

    spec: DataSpec
    train: Split
    validation: Split
    test: Split


def in_memory(arrays: Mapping[str, np.ndarray]) -> Split:
    """A split of arrays with a common leading axis."""
    return Split(len(next(iter(arrays.values()))), lambda rows: {k: v[rows] for k, v in arrays.items()}, arrays)


def stratified(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (rest, chosen): `count` rows drawn so that classes keep their proportions, both in order.

    Where a class is too small to be in both parts, rows are drawn without regard to classes.
    """
    from sklearn.model_selection import train_test_split

    if count == 0:
        return np.arange(len(labels)), np.arange(0)
    _, counts = np.unique(labels, return_counts=True)
    strata = labels if counts.min() >= 2 and len(counts) <= min(count, len(labels) - count) else None
    rest, chosen = train_test_split(np.arange(len(labels)), test_size=count, random_state=seed, stratify=strata)
    return np.sort(rest), np.sort(chosen)


def validation_count(name: str, size: int, wanted: int | None) -> int:
    """How many of `size` training examples are set apart: a tenth, at most 5,000, unless a number is wanted."""
    count = min(size // 10, 5000) if wanted is None else wanted
    if not 0 <= count < size:
        raise DataError(f"{name}: validation={count} of {size} training examples; use 0 to {size - 1}")
    return count


def image_data(
    name: str,
    train: Rows,
    test: Rows,
    *,
    validation: int | None = None,
    levels: int = 256,
    class_names: tuple[str, ...] = (),
) -> Data:
    """`Data` from labelled images in memory.

    `validation` rows (by default a tenth, at most 5,000) leave the training split.
    Raises `DataError` for labels that are no class numbers, or splits that do not match.
    """
    classes = _check_images(name, train, test, class_names)
    count = validation_count(name, len(train["label"]), validation)
    rest, chosen = stratified(train["label"], count, seed=0)
    parts = [{k: np.ascontiguousarray(v[rows]) for k, v in train.items()} for rows in (rest, chosen)]
    mean, std = channel_statistics(parts[0]["image"], levels)
    sizes = (len(rest), len(chosen), len(test["label"]))
    names = class_names or tuple(map(str, range(classes)))
    spec = DataSpec(name, train["image"].shape[1:], levels, classes, names, sizes, mean, std)
    return Data(spec, in_memory(parts[0]), in_memory(parts[1]), in_memory(test))


def _check_images(name: str, train: Rows, test: Rows, class_names: tuple[str, ...]) -> int:
    for split, rows in (("training", train), ("test", test)):
        if len(rows["label"]) == 0:
            raise DataError(f"{name}: the {split} split has no examples")
        if len(rows["label"]) != len(rows["image"]):
            raise DataError(
                f"{name}: {len(rows['image'])} {split} images but {len(rows['label'])} labels; they must match"
            )
    if train["image"].shape[1:] != test["image"].shape[1:]:
        raise DataError(
            f"{name}: training images are {train['image'].shape[1:]}, test images {test['image'].shape[1:]}"
        )
    classes = len(class_names) or max(int(train["label"].max()) + 1, 1)
    if classes > MOST_CLASSES:
        raise DataError(f"{name}: a training label is {classes - 1}; number the classes from 0")
    for split, rows in (("training", train), ("test", test)):
        low, high = int(rows["label"].min()), int(rows["label"].max())
        if low < 0 or high >= classes:
            raise DataError(f"{name}: a {split} label is {low if low < 0 else high}; labels must be 0 to {classes - 1}")
    return classes


def channel_statistics(images: np.ndarray, levels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images [n, h, w, c] scaled to [0, 1], from exact counts."""
    values = np.arange(256) / (levels - 1)
    channels = [np.bincount(images[..., c].reshape(-1), minlength=256) for c in range(images.shape[-1])]
    means = [float(count @ values / count.sum()) for count in channels]
    stds = [float(np.sqrt(count @ (values - m) ** 2 / count.sum())) for count, m in zip(channels, means, strict=True)]
    return tuple(means), tuple(max(s, 1e-6) for s in stds)


def load(name: str, *, data_dir: str | Path | None = None, validation: int | None = None) -> Data:
    """The data set `name`: digits, fashion_mnist, idx:DIR, folder:DIR, npz:FILE, tfds:NAME, or a synthetic 2-D set.

    `validation` overrides how many training examples are set apart. Splits are the same for every
    seed and run. Raises `DataError`.
    """
    from dlcore.data import files, tfds, toy

    kind, colon, rest = name.partition(":")
    if colon and kind in ("idx", "folder", "npz"):
        reader = {"idx": files.idx, "folder": files.folder, "npz": files.npz}[kind]
        return reader(Path(rest), validation=validation)
    if colon and kind == "tfds":
        return tfds.load(rest, data_dir=data_dir, validation=validation)
    if name == "digits":
        return files.digits(validation=validation)
    if name == "fashion_mnist":
        return files.fashion_mnist(data_dir, validation=validation)
    if name in toy.SETS:
        return toy.load(name, validation=validation)
    known = ["digits", "fashion_mnist", "idx:DIR", "folder:DIR", "npz:FILE", "tfds:NAME", *toy.SETS]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise DataError(f"unknown data {name!r}; did you mean {near!r}? There are {', '.join(known)}")
