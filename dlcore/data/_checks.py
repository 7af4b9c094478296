"""What labelled images must be, and how to mend those that are not."""

import numpy as np


class DataError(ValueError):
    """A data set that is missing, damaged or not what it should be."""


def image_array(name: str, images: np.ndarray) -> np.ndarray:
    """`images` as uint8 [n, h, w, c] with c = 1 or 3.

    Raises `DataError`, with the fix, for another dtype (which would have to be scaled or rounded), another rank,
    channels that are not last, and other numbers of channels.
    """
    if images.dtype != np.uint8:
        raise DataError(f"{name}: images are {images.dtype} {images.shape}, want uint8; {_to_uint8(images)}")
    if images.ndim not in (3, 4):
        raise DataError(
            f"{name}: images are uint8 {images.shape}; want [n, h, w] or [n, h, w, c]; reshape them, "
            "e.g. images.reshape(-1, 28, 28, 1)"
        )
    if 0 in images.shape[1:]:
        raise DataError(f"{name}: images are {images.shape}, without a pixel")
    if images.ndim == 3:
        return images[..., None]
    if images.shape[3] in (1, 3):
        return images
    if images.shape[1] in (1, 3):
        raise DataError(
            f"{name}: images are {images.shape}, channels first; save images.transpose(0, 2, 3, 1), channels last"
        )
    raise DataError(
        f"{name}: images are {images.shape}, so {images.shape[3]} channels; want 1 or 3 as the last axis: "
        "pick channels, or lay transparent images on a ground"
    )


def _to_uint8(images: np.ndarray) -> str:
    if images.dtype.kind == "b":
        return "save images.astype(np.uint8) * 255"
    if images.dtype.kind not in "iuf":
        return "save levels of 0 to 255"
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        return "some are NaN or infinite: replace those, then scale to 0 … 255 and round"
    low, high = (images.min(), images.max()) if images.size else (0, 0)
    if low < 0 or high > 255:
        return f"values are {low:g} to {high:g}: scale to 0 … 255, round and save with astype(np.uint8)"
    if images.dtype.kind == "f" and high <= 1:
        return "save (images * 255).round().astype(np.uint8)"
    return "save images.round().astype(np.uint8)" if images.dtype.kind == "f" else "save images.astype(np.uint8)"


def label_array(name: str, labels: np.ndarray) -> np.ndarray:
    """`labels` as int32 [n]; raises `DataError`, with the fix, for one-hot rows, columns, real numbers and names."""
    if labels.ndim == 2 and labels.shape[1] > 1 and ((labels != 0).sum(1) == 1).all():
        raise DataError(f"{name}: labels are {labels.shape}, one-hot rows; want integers [n]: save labels.argmax(1)")
    if labels.ndim != 1:
        fix = ": save labels[:, 0]" if labels.ndim == 2 and labels.shape[1] == 1 else ", one class per image"
        raise DataError(f"{name}: labels are {labels.dtype} {labels.shape}; want integers [n]{fix}")
    if labels.dtype.kind not in "iu":
        fix = "labels.astype(np.int32)" if labels.dtype.kind == "b" else _RENUMBER
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            fix = "only images that have a label: some are NaN"
        raise DataError(f"{name}: labels are {labels.dtype} {labels.shape}; want integers [n]: save {fix}")
    if labels.size and not -(2**31) <= labels.min() <= labels.max() < 2**31:
        raise DataError(f"{name}: a label does not fit 32 bits; number the classes from 0")
    return labels.astype(np.int32)


_RENUMBER = "np.unique(labels, return_inverse=True)[1]"


def count_classes(name: str, labels: np.ndarray, class_names: tuple[str, ...] = ()) -> int:
    """How many classes there are: those of `class_names`, or 0 … c − 1 as `labels` (all training labels) number them.

    Raises `DataError` for numbers without names that do not start at 0 or leave some out, for a
    number beyond the names, and for a single class, which every classifier predicts perfectly.
    """
    found, counts = np.unique(labels, return_counts=True)
    low, high = int(found[0]), int(found[-1])
    if len(class_names or found) < 2:
        raise DataError(f"{name}: all {len(labels)} training labels are {low}: one class; add examples of a second one")
    if class_names:
        check_range(name, "training", labels, len(class_names))
    elif low < 0 or high != len(found) - 1:
        raise DataError(f"{name}: training {_misnumbered(found, counts)}")
    return len(class_names or found)


def _misnumbered(found: np.ndarray, counts: np.ndarray) -> str:
    low, high = int(found[0]), int(found[-1])
    if high - low == len(found) - 1 and low > 0:
        return f"labels are {low} to {high}; labels must be 0 to {high - low}: subtract {low} and save them again"
    if low < 0:
        marked = int(counts[found < 0].sum())
        return (
            f"label is {low} ({marked} below 0); labels must be 0 to c − 1: drop such examples or renumber the classes"
        )
    rare = [int(value) for value, count in zip(found, counts, strict=True) if count == 1][-1:]
    hint = f" (only one example has {rare[0]}: a mistake?)" if rare else ""
    gap = int(np.setdiff1d(np.arange(len(found)), found)[0])
    return (
        f"labels are {len(found)} numbers from {low} to {high}{hint}, none is {gap}; "
        f"labels must be 0 to c − 1 without gaps: save {_RENUMBER}"
    )


def check_range(name: str, split: str, labels: np.ndarray, classes: int) -> None:
    """Raise `DataError` when a label is not 0 … `classes` − 1."""
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high >= classes:
        raise DataError(f"{name}: a {split} label is {low if low < 0 else high}; labels must be 0 to {classes - 1}")
