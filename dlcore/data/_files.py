"""Digits, Fashion-MNIST and IDX files."""

import gzip
import math
import struct
import zlib
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dlcore.data import _fingerprint as fingerprint
from dlcore.data._checks import DataError
from dlcore.data._source import Data, image_data
from dlcore.data._stratified import stratified

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def digits(*, validation: int | None = None) -> Data:
    """1,797 handwritten 8×8 digits of 17 grey levels, from scikit-learn; a fixed stratified fifth is the test split."""
    file = _digits_file()
    try:
        with gzip.open(file, "rt", encoding="ascii") as lines:
            table = np.loadtxt(list(lines), delimiter=",", dtype=np.uint8).reshape(1797, 65)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{file} is damaged ({error}); install scikit-learn anew") from None
    images, labels = table[:, :-1].reshape(-1, 8, 8, 1), table[:, -1].astype(np.int32)
    rest, test = stratified(labels, 360, seed=0)
    count = 180 if validation is None else validation
    train = {"image": images[rest], "label": labels[rest]}
    held = {"image": images[test], "label": labels[test]}
    marks = {"images": fingerprint.of_array(images), "labels": fingerprint.of_array(labels)}
    return image_data("digits", train, held, validation=count, levels=17, fingerprint=marks)


def _digits_file() -> Path:
    """The table of scikit-learn's digits, found without importing scikit-learn, which would take a second."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits is a part of scikit-learn, which is not installed; run 'pip install scikit-learn'")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():
        raise DataError(f"digits: scikit-learn's table is not in {file}; run 'pip install scikit-learn>=1.5'")
    return file


def fashion_mnist(data_dir: str | Path | None = None, *, validation: int | None = None) -> Data:
    """Fashion-MNIST from IDX files in `data_dir`, Debian's package `dataset-fashion-mnist`, or prepared by TFDS."""
    folders = [Path(data_dir) / "fashion_mnist", Path(data_dir)] if data_dir is not None else [DEBIAN]
    for folder in folders:
        if _idx_file(folder, "train-images-idx3-ubyte") is not None:
            return idx(folder, validation=validation, name="fashion_mnist", class_names=FASHION)
    from dlcore.data import _tfds as tfds

    if tfds.is_prepared("fashion_mnist", data_dir):
        return tfds.load("fashion_mnist", data_dir=data_dir, validation=validation)
    raise DataError(
        f"fashion_mnist is not in {' or '.join(map(str, folders))}; run 'apt-get install dataset-fashion-mnist', "
        "or put its four IDX files in a folder and pass --data_dir"
    )


def idx(folder: Path, *, validation: int | None = None, name: str = "", class_names: tuple[str, ...] = ()) -> Data:
    """The four IDX files of the MNIST family (`train-images-idx3-ubyte`, ..., plain or gzipped) in a folder."""
    splits, marks = [], {}
    for prefix in ("train", "t10k"):
        files = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]
        images, labels = (read_idx(_required_idx(folder, file)) for file in files)
        if images.ndim != 3 or labels.ndim != 1:
            raise DataError(f"{folder}: {prefix} images have {images.ndim} axes and labels {labels.ndim}; want 3 and 1")
        splits.append({"image": images[..., None], "label": labels.astype(np.int32)})
        marks |= {file: fingerprint.of_array(values) for file, values in zip(files, (images, labels), strict=True)}
    return image_data(
        name or f"idx:{folder}",
        *splits,
        validation=validation,
        class_names=class_names,
        notes=_unused(folder, marks.keys()),
        fingerprint=marks,
    )


def _unused(folder: Path, used: Collection[str]) -> tuple[str, ...]:
    others = [e.name for e in folder.iterdir() if "ubyte" in e.name and e.name.removesuffix(".gz") not in used]
    return (f"{len(others)} other IDX files are not used: {', '.join(sorted(others)[:5])}",) if others else ()


def _idx_file(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()), None)


def _required_idx(folder: Path, stem: str) -> Path:
    path = _idx_file(folder, stem)
    if path is None:
        raise DataError(f"{folder} has no {stem} or {stem}.gz; put the four IDX files there")
    return path


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an IDX file, gzipped or not. Raises `DataError` for a damaged one."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != 8 or not 1 <= data[3] <= 4:
        raise DataError(
            f"{path} is no IDX file of bytes (it starts with {data[:4].hex() or 'nothing'}); fetch it again"
        )
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise DataError(f"{path} is truncated inside its header; fetch it again")
    shape = struct.unpack(f">{data[3]}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise DataError(f"{path} promises {math.prod(shape)} bytes and holds {len(data) - header}; fetch it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
