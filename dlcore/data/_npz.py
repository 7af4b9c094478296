"""Images, with labels or without, in a NumPy archive."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from dlcore.data import _fingerprint as fingerprint
from dlcore.data._checks import DataError, count_classes, image_array
from dlcore.data._labels import numbered
from dlcore.data._source import Data, Rows, cut, image_data

SPLITS = {"train": ("train",), "test": ("test",), "validation": ("val", "valid", "validation")}
STYLES = (("x_{}", "y_{}"), ("image_{}", "label_{}"), ("images_{}", "labels_{}"), ("{}_images", "{}_labels"))
STYLES += (("{}_image", "{}_label"), ("{}_x", "{}_y"))
PAIRS = (("image", "label"), ("images", "labels"), ("x", "y"))
WHOLE = tuple(image for image, _ in PAIRS)

Arrays = dict[str, np.ndarray]
Pairs = dict[str, tuple[str, ...]]
"""By split the name of its images, and of its labels if there are any."""


def load(path: Path, *, validation: int | None = None) -> Data:
    """uint8 images [n, h, w(, c)], c = 1 or 3, and labels [n] of 0 … classes − 1 in an NPZ file, or images alone.

    Labels may also be texts, whole reals, true and false, or one-hot rows (see `_labels.numbered`).
    Either one pair `image`, `label` (also `images`/`x`, `labels`/`y`), or `x_train`, `y_train` with, where there
    are some, `x_test`, `y_test` and `x_val`, `y_val` (also `train_images`, ...; `valid`, `validation`). Without test
    arrays a fixed stratified fifth is the test split. Validation arrays are the validation split, unless `validation`
    asks for a number of training examples. Nothing is unpickled. Raises `DataError`, and notes what is not used.
    """
    name, arrays = f"npz:{path}", _read(path)
    pairs = _pairs(path, arrays)
    notes: tuple[str, ...] = ()
    if validation is not None and "validation" in pairs:
        unused = pairs.pop("validation")
        notes += (f"{' and '.join(unused)} are not used, as validation={validation} training examples were asked for",)
    used = [array for pair in pairs.values() for array in pair]
    if extra := sorted(arrays.keys() - set(used)):
        notes += (f"{len(extra)} of {len(arrays)} arrays are not used: {', '.join(extra[:5])}",)
    rows: dict[str, Rows] = {
        split: {"image": image_array(f"{path}: {image}", arrays[image])} for split, (image, *_) in pairs.items()
    }
    marks = {array: fingerprint.of_array(arrays[array]) for array in used}
    classes: tuple[str, ...] = ()
    if len(pairs["train"]) == 2:
        labels = numbered(str(path), {split: _labels(path, *pair, arrays) for split, pair in pairs.items()})
        rows = {split: {**part, "label": labels.labels[split]} for split, part in rows.items()}
        classes, notes = labels.names, notes + labels.notes
    else:
        notes += (f"there are no labels: {', '.join(used)} alone can train systems that need none",)
    if "test" not in rows:
        # Classes are counted before the cut, which may leave a small one without a training example.
        if not classes and len(rows["train"].get("label", ())):
            classes = tuple(map(str, range(count_classes(name, rows["train"]["label"]))))
        size = len(rows["train"]["image"])
        rows["train"], rows["test"] = cut(rows["train"])
        if "validation" in rows or pairs["train"][0] not in WHOLE:
            part = f"a fixed fifth ({len(rows['test']['image']):,} of {size:,}) of {pairs['train'][0]}"
            notes += (f"there are no test arrays: {part} is the test split",)
    return image_data(
        name,
        rows["train"],
        rows["test"],
        held=rows.get("validation"),
        validation=validation,
        class_names=classes,
        notes=notes,
        fingerprint=marks,
    )


def _pairs(path: Path, arrays: Arrays) -> Pairs:
    """Names of images and labels by split, or of images alone where no training images have labels.

    Raises `DataError` where no images are found, or those of a split twice.
    """
    found = _named(path, arrays, 2)
    found = found if "train" in found else _named(path, arrays, 1)
    if "train" in found:
        return found
    raise DataError(
        f"{path} holds {sorted(arrays)[:20]}; it needs image and label, or x_train, y_train, x_test and y_test "
        "(or image, or x_train and x_test, for systems that need no labels)"
    )


def _named(path: Path, arrays: Arrays, parts: int) -> Pairs:
    """What the archive has of the pairs of names, or of their first names if `parts` is 1, by split."""
    found: Pairs = {}
    for split, words in SPLITS.items():
        styles = [tuple(part.format(word) for part in style[:parts]) for word in words for style in STYLES]
        present = [pair for pair in dict.fromkeys(styles) if all(name in arrays for name in pair)]
        if len(present) > 1:
            raise DataError(f"{path} has two {split} splits, {present[0][0]} and {present[1][0]}; keep one")
        if split == "train" and not present:
            present = [pair[:parts] for pair in PAIRS if all(name in arrays for name in pair[:parts])]
        if present:
            found[split] = present[0]
    return found


def _read(path: Path) -> Arrays:
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file; pass npz:FILE with a NumPy archive")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is damaged or no NPZ file; save it again with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "pickle" in str(error) or "Object" in str(error):
            raise DataError(
                f"{path} holds Python objects, which are not loaded for safety; save plain number arrays"
            ) from None
        raise DataError(f"{path} cannot be read ({error}); save it again with numpy.savez") from None
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged or no NPZ file ({error}); save it again with numpy.savez") from None


def _labels(path: Path, image: str, label: str, arrays: Arrays) -> np.ndarray:
    images, labels = arrays[image], arrays[label]
    if images.ndim and labels.ndim and len(images) != len(labels):
        found = f"{len(images)} images but {len(labels)} labels ({image}, {label})"
        raise DataError(f"{path}: {found}; they must match")
    return labels
