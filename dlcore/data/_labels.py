"""Labels as they come, as class numbers: texts, true and false, whole reals, one-hot rows and columns."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dlcore.data._checks import DataError, label_array


class Numbered(NamedTuple):
    """Labels of every split as class numbers int32 [n]."""

    labels: Mapping[str, np.ndarray]
    names: tuple[str, ...]
    """The classes in order, where the labels say what they are called or how many there are; else empty."""
    notes: tuple[str, ...]
    """What was converted."""


def numbered(name: str, given: Mapping[str, np.ndarray]) -> Numbered:
    """Labels by split, "train" among them, as class numbers; what the training labels are decides.

    Texts become their place in the sorted list of those of the training split, true and false 1 and 0, whole reals
    integers, one-hot rows [n, c] the place of their 1, and columns [n, 1] their values. Raises `DataError` for what is
    none of these, in any split, and for a text that no training example has.
    """
    notes: list[str] = []
    if all(labels.ndim == 2 and labels.shape[1] == 1 for labels in given.values()):
        given = {split: labels[:, 0] for split, labels in given.items()}
        notes.append("labels are a column [n, 1], of which the values are taken")
    first = given["train"]
    names: tuple[str, ...] = ()
    if first.ndim == 2 and all(map(_is_one_hot, given.values())):
        names = tuple(map(str, range(first.shape[1])))
        given = {split: labels.argmax(1) for split, labels in given.items()}
        notes.append(f"labels are one-hot rows [n, {len(names)}]: the place of the 1 is the class")
    elif first.dtype.kind in "US":
        names = tuple(np.unique(first.astype(str)).tolist())
        given = {split: _places(f"{name}: {split}", labels, names) for split, labels in given.items()}
        shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
        notes.append(f"labels are texts: {len(names)} classes in the order of their names, {shown}")
    elif first.dtype.kind == "b":
        names = ("false", "true")
        given = {
            split: labels.astype(np.int32) if labels.dtype.kind == "b" else labels for split, labels in given.items()
        }
        notes.append("labels are true or false: false is class 0, true class 1")
    elif first.dtype.kind == "f" and all(map(_is_whole, given.values())):
        given = {split: labels.astype(np.int64) for split, labels in given.items()}
        notes.append(f"labels are whole numbers stored as {first.dtype}, and taken as integers")
    return Numbered({k: label_array(f"{name}: {k}", v) for k, v in given.items()}, names, tuple(notes))


def _is_one_hot(labels: np.ndarray) -> bool:
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "biuf":
        return False
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all())


def _is_whole(labels: np.ndarray) -> bool:
    return (
        labels.ndim == 1
        and labels.dtype.kind in "iuf"
        and bool((np.isfinite(labels) & (labels == labels.round())).all())
    )


def _places(name: str, labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The place of every text in `names`, which are sorted."""
    if labels.ndim != 1 or labels.dtype.kind not in "US":
        raise DataError(f"{name} labels are {labels.dtype} {labels.shape}, and training labels texts [n]; save texts")
    texts = labels.astype(str)
    if unknown := sorted(set(texts.tolist()) - set(names)):
        raise DataError(f"{name} labels have {unknown[0]!r}, which no training example has; add some, or drop it")
    return np.searchsorted(np.array(names), texts).astype(np.int32)
