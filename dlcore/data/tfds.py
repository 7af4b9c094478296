"""Data sets of TensorFlow Datasets, read by row without TensorFlow.

Works for builders prepared with `file_format="array_record"` whose images are stored encoded (PNG, JPEG).
"""

from pathlib import Path
from typing import Any

import numpy as np

from dlcore.data.source import Data, DataError, DataSpec, Rows, Split, channel_statistics, image_data, stratified

IN_MEMORY_BYTES = 2**28


def is_prepared(name: str, data_dir: str | Path | None) -> bool:
    """Whether a prepared version of the builder lies in `data_dir` (TFDS's own folder by default)."""
    base = Path(data_dir) if data_dir is not None else Path.home() / "tensorflow_datasets"
    return any(base.glob(f"{name}/**/dataset_info.json"))


def load(name: str, *, data_dir: str | Path | None = None, validation: int | None = None) -> Data:
    """The prepared builder `name` (or `name/config:version`), with its `image` and `label` features.

    Splits `train` and `test` are required; a `validation` split of the builder is used where there is one.
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
    names = tuple(builder.info.features["label"].names)
    shape = np.asarray(sources["train"][0]["image"]).shape
    size = sum(len(sources[split]) for split in ("train", "test")) * int(np.prod(shape))
    if size <= IN_MEMORY_BYTES and "validation" not in sources:
        train, test = (_read(sources[split], np.arange(len(sources[split]))) for split in ("train", "test"))
        return image_data(f"tfds:{name}", train, test, validation=validation, class_names=names)
    return _streamed(f"tfds:{name}", sources, names, shape, validation)


def _streamed(name: str, sources: Any, names: tuple[str, ...], shape: tuple[int, ...], validation: int | None) -> Data:
    train = sources["train"]
    if "validation" in sources:
        rest, held = np.arange(len(train)), _split(sources["validation"])
    else:
        count = min(len(train) // 10, 5000) if validation is None else validation
        rest, chosen = stratified(np.zeros(len(train), np.int32), count, seed=0)
        held = Split(len(chosen), lambda rows: _read(train, chosen[rows]))
    mean, std = channel_statistics(_read(train, rest[:: max(1, len(rest) // 2000)])["image"], 256)
    sizes = (len(rest), held.size, len(sources["test"]))
    spec = DataSpec(name, shape, 256, len(names), names, sizes, mean, std)
    return Data(spec, Split(len(rest), lambda rows: _read(train, rest[rows])), held, _split(sources["test"]))


def _split(source: Any) -> Split:
    return Split(len(source), lambda rows: _read(source, rows))


def _read(source: Any, rows: np.ndarray) -> Rows:
    found = source.__getitems__([int(row) for row in rows]) if len(rows) else []
    images = np.stack([np.asarray(example["image"], np.uint8) for example in found])
    return {"image": images, "label": np.array([example["label"] for example in found], np.int32)}
