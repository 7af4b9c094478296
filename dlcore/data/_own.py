"""Images of one's own for a trained model: files read as the images that it was trained on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlcore.data._checks import DataError
from dlcore.data._decode import SUFFIXES, decode
from dlcore.data._source import DataSpec


def image_files(folder: Path) -> list[Path]:
    """The images of a folder and of the folders within, by name. Raises `DataError` where there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name one with images")
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not found:
        raise DataError(f"{folder} holds no images; they end in {', '.join(SUFFIXES)}")
    return found


def read_like(files: Sequence[Path], spec: DataSpec) -> np.ndarray:
    """Files as images of `spec`: uint8 [n, h, w, c] with its sides, channels and number of grey levels.

    Those of another size are resized where images of `spec` are square: the shorter side to theirs, then the middle
    cut. Grey becomes RGB by repetition. Raises `DataError` for colour where grey is wanted, for another size where it
    is not square, and for what cannot be decoded.
    """
    if len(spec.shape) != 3 or spec.levels is None:
        raise DataError(f"{spec.name} has no images: the model cannot be given any")
    height, width, _ = spec.shape
    size = height if height == width else None
    images = np.stack([decode(path, spec.shape, image_size=size) for path in files])
    if spec.levels == 256:
        return images
    # (x · (levels − 1) + 127) // 255 is the nearest level.
    return ((images.astype(np.uint32) * (spec.levels - 1) + 127) // 255).astype(np.uint8)
