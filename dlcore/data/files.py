"""Data sets in files: digits, Fashion-MNIST, IDX, NPZ, and folders of images by class."""

import gzip
import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from dlcore.data.source import (
    Data,
    DataError,
    DataSpec,
    Rows,
    Split,
    channel_statistics,
    image_data,
    stratified,
    validation_count,
)

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IN_MEMORY_BYTES = 2**28


def digits(*, validation: int | None = None) -> Data:
    """1,797 handwritten 8×8 digits of 17 grey levels, from scikit-learn; a fixed stratified fifth is the test split."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images, labels = found.images.astype(np.uint8)[..., None], found.target.astype(np.int32)
    rest, test = stratified(labels, 360, seed=0)
    count = 180 if validation is None else validation
    train = {"image": images[rest], "label": labels[rest]}
    return image_data("digits", train, {"image": images[test], "label": labels[test]}, validation=count, levels=17)


def fashion_mnist(data_dir: str | Path | None = None, *, validation: int | None = None) -> Data:
    """Fashion-MNIST from IDX files in `data_dir`, Debian's package `dataset-fashion-mnist`, or prepared by TFDS."""
    folders = [Path(data_dir) / "fashion_mnist", Path(data_dir)] if data_dir is not None else [DEBIAN]
    for folder in folders:
        if _idx_file(folder, "train-images-idx3-ubyte") is not None:
            return idx(folder, validation=validation, name="fashion_mnist", class_names=FASHION)
    from dlcore.data import tfds

    if tfds.is_prepared("fashion_mnist", data_dir):
        return tfds.load("fashion_mnist", data_dir=data_dir, validation=validation)
    raise DataError(
        f"fashion_mnist is not in {' or '.join(map(str, folders))}; run 'apt-get install dataset-fashion-mnist', "
        "or put its four IDX files in a folder and pass --data_dir"
    )


def idx(folder: Path, *, validation: int | None = None, name: str = "", class_names: tuple[str, ...] = ()) -> Data:
    """The four IDX files of the MNIST family (`train-images-idx3-ubyte`, ..., plain or gzipped) in a folder."""
    splits = []
    for prefix in ("train", "t10k"):
        images = read_idx(_required_idx(folder, f"{prefix}-images-idx3-ubyte"))
        labels = read_idx(_required_idx(folder, f"{prefix}-labels-idx1-ubyte"))
        if images.ndim != 3 or labels.ndim != 1:
            raise DataError(f"{folder}: {prefix} images have {images.ndim} axes and labels {labels.ndim}; want 3 and 1")
        splits.append({"image": images[..., None], "label": labels.astype(np.int32)})
    return image_data(name or f"idx:{folder}", *splits, validation=validation, class_names=class_names)


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


def npz(path: Path, *, validation: int | None = None) -> Data:
    """uint8 images [n, h, w(, c)] and labels [n] in an NPZ file.

    Either one pair `image`, `label` (also `images`/`x`, `labels`/`y`), from which a fixed stratified fifth is the
    test split, or `x_train`, `y_train`, `x_test`, `y_test` (also `train_images`, ...). Nothing is unpickled.
    """
    arrays = _read_npz(path)
    pairs = [("x_{}", "y_{}"), ("image_{}", "label_{}"), ("{}_images", "{}_labels"), ("{}_image", "{}_label")]
    for image, label in pairs:
        names = [image.format("train"), label.format("train"), image.format("test"), label.format("test")]
        if all(name in arrays for name in names):
            found = [arrays[name] for name in names]
            return image_data(f"npz:{path}", _rows(path, *found[:2]), _rows(path, *found[2:]), validation=validation)
    for image, label in (("image", "label"), ("images", "labels"), ("x", "y")):
        if image in arrays and label in arrays:
            rows = _rows(path, arrays[image], arrays[label])
            return image_data(f"npz:{path}", *_cut(rows), validation=validation)
    raise DataError(f"{path} holds {sorted(arrays)}; it needs image and label, or x_train, y_train, x_test and y_test")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
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


def _rows(path: Path, images: np.ndarray, labels: np.ndarray) -> Rows:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(f"{path}: images are {images.dtype} {images.shape}; want uint8 [n, h, w] or [n, h, w, c]")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path}: labels are {labels.dtype} {labels.shape}; want integers [n]")
    if len(images) != len(labels):
        raise DataError(f"{path}: {len(images)} images but {len(labels)} labels; they must match")
    if labels.size and not -(2**31) <= labels.min() <= labels.max() < 2**31:
        raise DataError(f"{path}: a label does not fit 32 bits; number the classes from 0")
    return {"image": images if images.ndim == 4 else images[..., None], "label": labels.astype(np.int32)}


def _cut(rows: Rows) -> tuple[Rows, Rows]:
    """A fixed fifth as test split, stratified where the classes are large enough."""
    labels = rows["label"]
    if len(labels) < 5:
        raise DataError(f"{len(labels)} examples are too few to set a fifth apart for testing")
    rest, test = stratified(labels, len(labels) // 5, seed=0)
    return {k: v[rest] for k, v in rows.items()}, {k: v[test] for k, v in rows.items()}


def folder(path: Path, *, validation: int | None = None) -> Data:
    """PNG or JPEG images of one shape in `DIR/train/<class>/` and `DIR/test/<class>/`, or in `DIR/<class>/`.

    In the second form a fixed stratified fifth is the test split. Images are 8-bit grey or colour as the first one is.
    Small sets are decoded once and held in memory; of large ones each read decodes its own rows.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; pass folder:DIR with one folder of images per class")
    if (path / "train").is_dir() and (path / "test").is_dir():
        names = _class_names(path / "train")
        train, test = _listed(path / "train", names), _listed(path / "test", names)
    else:
        names = _class_names(path)
        files, labels = _listed(path, names)
        keep, held = (rows["row"] for rows in _cut({"row": np.arange(len(files)), "label": labels}))
        train, test = (files[keep], labels[keep]), (files[held], labels[held])
    first = decode(train[0][0], None)
    read = [_reader(files, labels, first.shape) for files, labels in (train, test)]
    if (len(train[0]) + len(test[0])) * first.size <= IN_MEMORY_BYTES:
        whole = [reader(np.arange(len(part[0]))) for reader, part in zip(read, (train, test), strict=True)]
        return image_data(f"folder:{path}", *whole, validation=validation, class_names=names)
    splits = [Split(len(part[0]), reader) for part, reader in zip((train, test), read, strict=True)]
    count = validation_count(f"folder:{path}", len(train[1]), validation)
    return _streamed(f"folder:{path}", names, splits[0], train[1], splits[1], count)


def _streamed(name: str, names: tuple[str, ...], train: Split, labels: np.ndarray, test: Split, count: int) -> Data:
    rest, chosen = stratified(labels, count, seed=0)
    # Statistics of a large set are those of some two thousand evenly spaced training images.
    sample = train.read(rest[:: max(1, len(rest) // 2000)])["image"]
    sizes = (len(rest), len(chosen), test.size)
    spec = DataSpec(name, sample.shape[1:], 256, len(names), names, sizes, *channel_statistics(sample, 256))
    splits = [Split(len(rows), lambda i, rows=rows: train.read(rows[i])) for rows in (rest, chosen)]
    return Data(spec, *splits, test)


def _class_names(path: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if not names:
        raise DataError(f"{path} has no folders; put the images of each class in a folder of its own")
    return names


def _listed(path: Path, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    files: list[Path] = []
    labels: list[int] = []
    if extra := sorted(
        e.name for e in path.iterdir() if e.is_dir() and e.name not in names and not e.name.startswith(".")
    ):
        raise DataError(f"{path} has a class {extra[0]!r} that the training split lacks")
    for label, name in enumerate(names):
        found = sorted(f for f in (path / name).glob("*") if f.suffix.lower() in (".png", ".jpg", ".jpeg"))
        if not found:
            raise DataError(f"{path / name} has no PNG or JPEG image; add some or remove the folder")
        files += found
        labels += [label] * len(found)
    return np.array(files, dtype=object), np.array(labels, np.int32)


def decode(path: Path, shape: tuple[int, ...] | None) -> np.ndarray:
    """The image in a file as uint8 [h, w, c], grey (c = 1) or RGB; must have `shape` if one is given."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise DataError(f"{path} has more than 8 bits per channel ({image.mode}); convert the images to 8")
            grey = image.mode in ("1", "L", "LA") if shape is None else shape[-1] == 1
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be decoded ({error}); fetch it again or remove it") from None
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if shape is not None and pixels.shape != shape:
        raise DataError(
            f"{path} is {pixels.shape[1]}×{pixels.shape[0]}, others {shape[1]}×{shape[0]}; resize all images alike"
        )
    return pixels


def _reader(files: np.ndarray, labels: np.ndarray, shape: tuple[int, ...]):
    def read(rows: np.ndarray) -> Rows:
        images = np.stack([decode(files[row], shape) for row in rows]) if len(rows) else np.zeros((0, *shape), np.uint8)
        return {"image": images, "label": labels[rows]}

    return read
