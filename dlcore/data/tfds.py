"""Data sets of TensorFlow Datasets, read by row without TensorFlow.

Works for builders prepared with `file_format="array_record"` whose images are stored encoded (PNG, JPEG).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlcore.data.source import (
    Data,
    DataError,
    DataSpec,
    Rows,
    Split,
    channel_statistics,
    image_data,
    in_memory,
    stratified,
    validation_count,
)

IN_MEMORY_BYTES = 2**28


def is_prepared(name: str, data_dir: str | Path | None) -> bool:
    """Whether a prepared version of the builder lies in `data_dir` (TFDS's own folder by default)."""
    base = Path(data_dir) if data_dir is not None else Path.home() / "tensorflow_datasets"
    return any(base.glob(f"{name}/**/dataset_info.json"))


def load(name: str, *, data_dir: str | Path | None = None, validation: int | None = None) -> Data:
    """The prepared builder `name` (or `name/config:version`), with its `image` and `label` features.

    Splits `train` and `test` are required. The builder's `validation` split is used where there is one, unless
    `validation` asks for a number of training examples.
    """
    import tensorflow_datasets

    try:
        builder = tensorflow_datasets.builder(name, data_dir=data_dir)
        sources = builder.as_data_source()
    except Exception as error:  # TFDS raises many kinds, some with pages of text
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        where = data_dir or "its default folder"
        raise DataError(
            f"tfds:{name} is not ready in {where} ({reason}); prepare it as array_record, or pass --data_dir"
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
    shape = np.asarray(sources["train"][0]["image"]).shape
    splits = {split: _split(f"tfds:{name}", sources[split], shape) for split in used}
    if sum(split.size for split in splits.values()) * int(np.prod(shape)) > IN_MEMORY_BYTES:
        return _streamed(f"tfds:{name}", splits, names, validation)
    whole = {split: rows.read(np.arange(rows.size)) for split, rows in splits.items()}
    if "validation" not in used:
        return image_data(f"tfds:{name}", whole["train"], whole["test"], validation=validation, class_names=names)
    data = image_data(f"tfds:{name}", whole["train"], whole["test"], validation=0, class_names=names)
    held = in_memory(whole["validation"])
    sizes = (data.train.size, held.size, data.test.size)
    return data._replace(spec=data.spec._replace(sizes=sizes), validation=held)


def _class_names(name: str, features: Any) -> tuple[str, ...]:
    if features["image"].np_dtype != np.uint8:
        raise DataError(f"tfds:{name} has {np.dtype(features['image'].np_dtype)} images; only uint8 ones can be used")
    if not hasattr(features["label"], "names"):
        raise DataError(f"tfds:{name} has a label that is no class; only ClassLabel features can be used")
    return tuple(features["label"].names)


def _streamed(name: str, splits: Mapping[str, Split], names: tuple[str, ...], validation: int | None) -> Data:
    train, test = splits["train"], splits["test"]
    count = 0 if "validation" in splits else validation_count(name, train.size, validation)
    # Labels of a large set are not known before its images are decoded: rows are drawn whatever their class.
    rest, chosen = stratified(np.zeros(train.size, np.int32), count, seed=0)
    held = splits.get("validation", Split(len(chosen), lambda rows: train.read(chosen[rows])))
    # Statistics of a large set are those of some two thousand evenly spaced training images.
    sample = train.read(rest[:: max(1, len(rest) // 2000)])["image"]
    sizes = (len(rest), held.size, test.size)
    spec = DataSpec(name, sample.shape[1:], 256, len(names), names, sizes, *channel_statistics(sample, 256))
    return Data(spec, Split(len(rest), lambda rows: train.read(rest[rows])), held, test)


def _split(name: str, source: Any, shape: tuple[int, ...]) -> Split:
    def read(rows: np.ndarray) -> Rows:
        try:
            found = source.__getitems__([int(row) for row in rows]) if len(rows) else []
        except (OSError, SyntaxError, ValueError) as error:
            reason = str(error).strip().splitlines()[0][:160]
            raise DataError(f"{name} has an image that cannot be decoded ({reason}); prepare it again") from None
        for example in found:
            if example["image"].shape != shape:
                raise DataError(f"{name} has images of {shape} and {example['image'].shape}; only one size can be used")
        images = np.array([example["image"] for example in found], np.uint8).reshape(len(rows), *shape)
        return {"image": images, "label": np.array([example["label"] for example in found], np.int32)}

    return Split(len(source), read)
