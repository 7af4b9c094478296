"""A data set: three splits that can be read by row, and what a system must know about them.

A split is read by index, so that any order, any number of processes and any restart see the same rows.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from dlcore.data._checks import DataError, check_range, count_classes
from dlcore.data._fingerprint import Fingerprint, of_array
from dlcore.data._stratified import stratified

Rows = dict[str, np.ndarray]


class DataSpec(NamedTuple):
    """What a system must know about its data."""

    name: str
    shape: tuple[int, ...]
    """(H, W, C) of an image, (D,) of a point."""
    levels: int | None
    """Grey levels per channel, 0 … levels − 1; None for real values."""
    classes: int | None
    """None where examples have no label."""
    class_names: tuple[str, ...]
    sizes: tuple[int, int, int]
    """Examples in train, validation and test."""
    mean: tuple[float, ...]
    """Per channel over the training split, pixels scaled to [0, 1]."""
    std: tuple[float, ...]
    notes: tuple[str, ...] = ()
    """What was left out, changed or chosen on the way in, one sentence each, for people to read."""
    fingerprint: Fingerprint = MappingProxyType({})
    """What the files or arrays are, by part: see `dlcore.data.Fingerprint`."""
    mask_classes: int = 0
    """Classes of the pixels of `mask`, which `class_names` names, 255 being ignored; 0 where images have no masks."""

    def need(self, system: str, *, images: bool = False, labels: bool = False) -> None:
        """Raise `ValueError` where these data lack what `system` needs: images of grey levels, or labels."""
        missing = images and (len(self.shape) != 3 or self.levels is None)
        if missing or (labels and not self.classes):
            what = f"{'labelled ' if labels else ''}images" if images else "labels"
            raise ValueError(f"{system} needs {what}, and {self.name} has none; use digits, for instance")


class Split(NamedTuple):
    """Examples that are read by row."""

    size: int
    read: Callable[[np.ndarray], Rows]
    """Row numbers [n] to `image` uint8 [n, h, w, c] (or `point` float32 [n, d]), with `label` int32 [n] where there
    are classes, or `mask` uint8 [n, h, w]."""
    arrays: Mapping[str, np.ndarray] | None = None
    """The whole split, when it is held in memory."""

    def all(self) -> Rows:
        """Every row, in order."""
        return dict(self.arrays) if self.arrays is not None else self.read(np.arange(self.size))

    def first(self, most: int) -> Rows:
        """The first rows, at most so many."""
        return self.read(np.arange(min(most, self.size)))


class Data(NamedTuple):
    """The three splits; only `train` may inform a model's parameters or statistics."""

    spec: DataSpec
    train: Split
    validation: Split
    test: Split


def marked(data: Data) -> Data:
    """The data with a fingerprint of its arrays, where it has none and they are in memory: data at hand may change."""
    parts = {"training": data.train, "validation": data.validation, "test": data.test}
    if data.spec.fingerprint or any(part.arrays is None for part in parts.values()):
        return data
    marks = {f"{s} {name}s": of_array(np.asarray(v)) for s, part in parts.items() for name, v in part.arrays.items()}
    return data._replace(spec=data.spec._replace(fingerprint=marks))


def in_memory(arrays: Mapping[str, np.ndarray]) -> Split:
    """A split of arrays with a common leading axis."""
    return Split(len(next(iter(arrays.values()))), lambda rows: {k: v[rows] for k, v in arrays.items()}, arrays)


def fifth(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (rest, test) of a fixed fifth as test split, stratified where the classes are large enough."""
    if len(labels) < 5:
        raise DataError(f"{len(labels)} examples are too few to set a fifth apart for testing; add some")
    return stratified(labels, len(labels) // 5, seed=0)


def labels_of(rows: Rows) -> np.ndarray:
    """The labels int32 [n] of rows; all 0 where there are none."""
    return rows["label"] if "label" in rows else np.zeros(len(next(iter(rows.values()))), np.int32)


def cut(rows: Rows) -> tuple[Rows, Rows]:
    """(training, test): the fixed fifth of `fifth` taken out of all arrays."""
    rest, test = fifth(labels_of(rows))
    return {k: v[rest] for k, v in rows.items()}, {k: v[test] for k, v in rows.items()}


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
    held: Rows | None = None,
    validation: int | None = None,
    levels: int = 256,
    class_names: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    fingerprint: Fingerprint,
) -> Data:
    """`Data` from images in memory, all with a `label` or none.

    `validation` rows (by default a tenth, at most 5,000) leave the training split, unless `held` is a validation split.
    Raises `DataError` for labels that are no class numbers, or splits that do not match.
    """
    given = {"training": train, "test": test} | ({} if held is None else {"validation": held})
    _check_shapes(name, given)
    classes = count_classes(name, train["label"], class_names) if "label" in train else None
    for split, rows in given.items() if classes else ():
        check_range(name, split, rows["label"], classes)
    if held is None:
        count = validation_count(name, len(train["image"]), validation)
        rest, chosen = stratified(labels_of(train), count, seed=0)
        train, held = ({k: v[rows] for k, v in train.items()} for rows in (rest, chosen))
    parts = [in_memory({k: np.ascontiguousarray(v) for k, v in part.items()}) for part in (train, held, test)]
    notes += _missing(name, train["label"], class_names or tuple(map(str, range(classes)))) if classes else ()
    return _data(name, *parts, train["image"], levels, class_names, classes, notes, fingerprint)


def streamed_data(
    name: str,
    train: Split,
    test: Split,
    *,
    held: Split | None,
    labels: np.ndarray | None,
    validation: int | None,
    class_names: tuple[str, ...],
    notes: tuple[str, ...] = (),
    fingerprint: Fingerprint,
) -> Data:
    """`Data` from images that are read when they are needed; they have labels if there are `class_names`.

    The validation split is `held`, or `validation` rows of the training split, drawn whatever their class where
    `labels` are not known before images are decoded (None).
    """
    rest = np.arange(train.size)
    if held is None:
        count = validation_count(name, train.size, validation)
        rest, chosen = stratified(np.zeros(train.size, np.int32) if labels is None else labels, count, seed=0)
        held = Split(count, lambda rows: train.read(chosen[rows]))
    # Statistics of a large set are those of some two thousand evenly spaced training images.
    sample = train.read(rest[:: max(1, len(rest) // 2000)])["image"]
    left = Split(len(rest), lambda rows: train.read(rest[rows]))
    return _data(name, left, held, test, sample, 256, class_names, len(class_names) or None, notes, fingerprint)


def _data(
    name: str,
    train: Split,
    held: Split,
    test: Split,
    sample: np.ndarray,
    levels: int,
    class_names: tuple[str, ...],
    classes: int | None,
    notes: tuple[str, ...],
    fingerprint: Fingerprint,
) -> Data:
    mean, std = channel_statistics(sample, levels)
    names, sizes = class_names or tuple(map(str, range(classes or 0))), (train.size, held.size, test.size)
    spec = DataSpec(name, sample.shape[1:], levels, classes, names, sizes, mean, std, notes, fingerprint)
    return Data(spec, train, held, test)


def _check_shapes(name: str, given: Mapping[str, Rows]) -> None:
    for split, rows in given.items():
        if len(rows["image"]) == 0:
            raise DataError(f"{name}: the {split} split has no examples")
        if len(rows.get("label", rows["image"])) != len(rows["image"]):
            raise DataError(
                f"{name}: {len(rows['image'])} {split} images but {len(rows['label'])} labels; they must match"
            )
        shapes = [part["image"].shape[1:] for part in (given["training"], rows)]
        if shapes[0] != shapes[1]:
            raise DataError(f"{name}: training images are {shapes[0]}, {split} images {shapes[1]}; make them alike")


def _missing(name: str, labels: np.ndarray, class_names: tuple[str, ...]) -> tuple[str, ...]:
    absent = [class_names[i] for i in np.setdiff1d(np.arange(len(class_names)), labels)]
    if not absent:
        return ()
    return (f"{len(absent)} of {len(class_names)} classes have no training example: {', '.join(absent[:5])}",)


def channel_statistics(images: np.ndarray, levels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images [n, h, w, c] scaled to [0, 1], from exact counts."""
    values = np.arange(256) / (levels - 1)
    channels = [np.bincount(images[..., c].reshape(-1), minlength=256) for c in range(images.shape[-1])]
    means = [float(count @ values / count.sum()) for count in channels]
    stds = [float(np.sqrt(count @ (values - m) ** 2 / count.sum())) for count, m in zip(channels, means, strict=True)]
    return tuple(means), tuple(max(s, 1e-6) for s in stds)
