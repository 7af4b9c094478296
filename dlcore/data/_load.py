"""Data sets by name. Problems with files are `DataError`s of one line that say what to do."""

from pathlib import Path

from dlcore.addresses import local
from dlcore.data import _files as files
from dlcore.data import _folder as folder
from dlcore.data import _npz as npz
from dlcore.data import _segments as segments
from dlcore.data import _tfds as tfds
from dlcore.data import toy
from dlcore.data._checks import DataError
from dlcore.data._source import Data
from dlcore.lookup import choices


def load(
    name: str,
    *,
    data_dir: str | Path | None = None,
    validation: int | None = None,
    image_size: int | None = None,
) -> Data:
    """The data set `name`: digits, fashion_mnist, idx:DIR, folder:DIR, segments:DIR, npz:FILE, tfds:NAME, or a 2-D set.

    `validation` overrides how many training examples are set apart. `image_size` makes the images of folder:,
    segments: and tfds: square. Splits are the same for every seed and run. Raises `DataError`.
    """
    kind, colon, rest = name.partition(":")
    data_dir = None if data_dir is None else _here("data_dir", data_dir)
    if image_size is not None:
        _check_size(name, image_size)
    if colon and not rest.strip():
        raise DataError(f"{name} names no data; write what stands behind the colon, as in folder:DIR or npz:FILE")
    if colon and kind in ("folder", "segments"):
        reader = {"folder": folder.load, "segments": segments.load}[kind]
        return reader(_here(kind, rest), validation=validation, image_size=image_size)
    if colon and kind == "tfds":
        return tfds.load(rest, data_dir=data_dir, validation=validation, image_size=image_size)
    if colon and kind in ("idx", "npz"):
        reader = {"idx": files.idx, "npz": npz.load}[kind]
        return reader(_here(kind, rest), validation=validation)
    if name == "digits":
        return files.digits(validation=validation)
    if name == "fashion_mnist":
        return files.fashion_mnist(data_dir, validation=validation)
    if name in toy.SETS:
        return toy.load(name, validation=validation)
    known = ["digits", "fashion_mnist", "idx:DIR", "folder:DIR", "segments:DIR", "npz:FILE", "tfds:NAME", *toy.SETS]
    raise DataError(f"unknown data {name!r}; {choices(name, known)}")


def _here(name: str, path: str | Path) -> Path:
    try:
        return local(name, path, "copy or mount the data, and name it there")
    except ValueError as error:
        raise DataError(str(error)) from None


def _check_size(name: str, image_size: int) -> None:
    if name.partition(":")[0] not in ("folder", "segments", "tfds"):
        raise DataError(
            f"image_size={image_size} is for folder:, segments: and tfds:, and {name} has images of one size; "
            "leave it out"
        )
    if not 1 <= image_size <= 4096:
        raise DataError(f"image_size must be 1 to 4096 pixels, got {image_size}")
