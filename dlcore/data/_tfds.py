"""Data sets of TensorFlow Datasets, read by row without TensorFlow.

Works for builders prepared with `file_format="array_record"` whose images are stored encoded (PNG, JPEG).
"""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from dlcore.data import _fingerprint as fingerprint
from dlcore.data._checks import DataError
from dlcore.data._decode import fit
from dlcore.data._source import Data, Rows, Split, image_data, streamed_data

IN_MEMORY_BYTES = 2**28


def is_prepared(name: str, data_dir: str | Path | None) -> bool:
    """Whether a prepared version of the builder lies in `data_dir` (TFDS's own folder by default)."""
    base = Path(data_dir) if data_dir is not None else Path.home() / "tensorflow_datasets"
    return any(base.glob(f"{name}/**/dataset_info.json"))


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    validation: int | None = None,
    image_size: int | None = None,
) -> Data:
    """The prepared builder `name` (or `name/config:version`), with its `image` and `label` features.

    Splits `train` and `test` are required. The builder's `validation` split is used where there is one, unless
    `validation` asks for a number of training examples; that and other splits that are not used are noted.
    `image_size` makes images square (see `decode.fit`).
    """
    import tensorflow_datasets

    try:
        builder = tensorflow_datasets.builder(name, data_dir=data_dir)
        sources = builder.as_data_source()
    except Exception as error:  # TFDS raises many kinds, some with pages of text
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        where, command = data_dir or "its default folder", preparation(name, data_dir)
        raise DataError(
            f"tfds:{name} is not ready in {where} ({reason}); pass --data_dir, or prepare it: {command}"
        ) from None
    if missing := {"train", "test"} - sources.keys():
        raise DataError(f"tfds:{name} has splits {sorted(sources)}; {' and '.join(sorted(missing))} missing")
    if missing := {"image", "label"} - builder.info.features.keys():
        raise DataError(
            f"tfds:{name} has features {sorted(builder.info.features)}; {' and '.join(sorted(missing))} missing"
        )
    names = _class_names(name, builder.info.features)
    if empty := [split for split in ("train", "test") if not len(sources[split])]:
        raise DataError(f"tfds:{name}: split {empty[0]} has no examples")
    used = ["train", "test", *(["validation"] if "validation" in sources and validation is None else [])]
    unused = [f"{split} ({len(sources[split]):,} examples)" for split in sorted(sources.keys() - set(used))]
    notes = (f"splits that are not used: {', '.join(unused)}",) if unused else ()
    shape = _shape(f"tfds:{name}", sources["train"], image_size)
    changed: set[tuple[str, int]] = set()
    splits = {split: _split(f"tfds:{name}", split, sources[split], shape, image_size, changed) for split in used}
    total = sum(split.size for split in splits.values())
    marks = {"builder": {"name": builder.info.full_name}}
    marks |= {f"tfds split {split}": _mark(builder.info.splits[split]) for split in used}
    options = {"validation": validation, "class_names": names}
    if total * int(np.prod(shape)) > IN_MEMORY_BYTES:
        if image_size is not None:
            notes += (f"images of other sizes are resized and cut to {image_size}×{image_size}",)
        held, train, test = splits.get("validation"), splits["train"], splits["test"]
        # Labels of a large set are not known before its images are decoded.
        return streamed_data(
            f"tfds:{name}", train, test, held=held, labels=None, **options, notes=notes, fingerprint=marks
        )
    whole = {split: rows.read(np.arange(rows.size)) for split, rows in splits.items()}
    marks |= {f"{split} {key}s": fingerprint.of_array(v) for split, rows in whole.items() for key, v in rows.items()}
    if changed:
        notes += (f"{len(changed):,} of {total:,} images are resized and cut to {image_size}×{image_size}",)
    held = whole.get("validation")
    return image_data(
        f"tfds:{name}", whole["train"], whole["test"], held=held, **options, notes=notes, fingerprint=marks
    )


def preparation(name: str, data_dir: str | Path | None) -> str:
    """The command that downloads and prepares a builder as it is read here; it needs TensorFlow for some builders."""
    place = "" if data_dir is None else f", data_dir={json.dumps(str(data_dir))}"
    made = f'tfds.builder({json.dumps(name)}{place}, file_format="array_record").download_and_prepare()'
    return f"python -c {shlex.quote(f'import tensorflow_datasets as tfds; {made}')}"


def _mark(info: Any) -> dict[str, int]:
    return {"examples": info.num_examples, "bytes": info.num_bytes}


def _shape(name: str, source: Any, image_size: int | None) -> tuple[int, int, int]:
    """The shape [h, w, c] that all images get or must have; raises `DataError` for other than 1 or 3 channels."""
    height, width, channels = np.asarray(source[0]["image"]).shape
    if channels not in (1, 3):
        raise DataError(f"{name} has images of {channels} channels; only 1 (grey) and 3 (RGB) can be used")
    return (height, width, channels) if image_size is None else (image_size, image_size, channels)


def _class_names(name: str, features: Any) -> tuple[str, ...]:
    if features["image"].np_dtype != np.uint8:
        raise DataError(f"tfds:{name} has {np.dtype(features['image'].np_dtype)} images; only uint8 ones can be used")
    if not hasattr(features["label"], "names"):
        raise DataError(f"tfds:{name} has a label that is no class; only ClassLabel features can be used")
    return tuple(features["label"].names)


def _split(
    name: str, split: str, source: Any, shape: tuple[int, int, int], image_size: int | None, changed: set
) -> Split:
    """The rows of a split; those that `image_size` changes are put into `changed`."""

    def read(rows: np.ndarray) -> Rows:
        images, labels = np.zeros((len(rows), *shape), np.uint8), np.zeros(len(rows), np.int32)
        odd: list[tuple[int, ...]] = []
        for i, (row, example) in enumerate(zip(rows, _examples(name, source, rows), strict=True)):
            image, labels[i] = example["image"], example["label"]
            if image_size is not None and image.shape != shape:
                changed.add((split, int(row)))
                image = fit(image, image_size)
            if image.shape == shape:
                images[i] = image
            else:
                odd.append(image.shape)
        if odd:
            raise DataError(
                f"{name}: {len(odd):,} of {len(rows):,} {split} images are not {_size(shape)} (the first: "
                f"{_size(odd[0])}); pass --image_size={min(shape[:2])}"
            )
        return {"image": images, "label": labels}

    return Split(len(source), read)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"


def _examples(name: str, source: Any, rows: np.ndarray) -> list[Any]:
    try:
        return source.__getitems__([int(row) for row in rows]) if len(rows) else []
    except (OSError, SyntaxError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise DataError(f"{name} has an image that cannot be decoded ({reason}); prepare it again") from None
