"""Own folders of images with a mask for each (lecture 25).

    DIR/train/images/cat_01.jpg     DIR/train/masks/cat_01.png
    DIR/test/images/…               DIR/test/masks/…

A mask is a PNG of class numbers, grey or with a palette, as large as its image; 255 is ignored. `classes.txt` names the
classes, one a line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dlcore.data import _fingerprint as fingerprint
from dlcore.data._checks import DataError
from dlcore.data._decode import DAMAGE, SUFFIXES, decode, fit, png_bits
from dlcore.data._folder import SPLITS, survey_of
from dlcore.data._source import Data, DataSpec, Rows, Split, channel_statistics, fifth, in_memory, validation_count

CLASSES = "classes.txt"
"""The file of a folder that names the classes, one a line."""
IGNORED = 255
"""The number of a pixel that counts for nothing, as in Pascal VOC."""
IN_MEMORY_BYTES = 2**28


class Pairs(NamedTuple):
    """The images and masks of a split, in the order of their names."""

    images: list[Path]
    masks: list[Path]

    def pick(self, rows: np.ndarray) -> "Pairs":
        """Some of them."""
        return Pairs([self.images[i] for i in rows], [self.masks[i] for i in rows])


def load(path: Path, *, validation: int | None = None, image_size: int | None = None) -> Data:
    """Pairs from `images/` and `masks/` in `train/`, `test/` and `val/` of a folder, or in the folder itself.

    Without `test/` a fixed fifth of the pairs is the test split; `val/` is the validation split, unless `validation`
    asks for a number of training pairs. `image_size` makes images and masks square, masks by their nearest pixel.
    Rows have `image` uint8 [h, w, c] and `mask` uint8 [h, w]; up to 256 MiB are held in memory. The classes are those
    of `classes.txt`, or 0 to the largest number in a training mask. Raises `DataError`.
    """
    found, notes = _found(path, validation)
    shape, told = survey_of([image for pairs in found.values() for image in pairs.images], image_size)
    small = sum(len(p.images) for p in found.values()) * int(np.prod(shape[:2])) * (shape[2] + 1) <= IN_MEMORY_BYTES
    marks = {
        f"{split} {kind}": fingerprint.of_files(path, files, contents=small)
        for split, pairs in found.items()
        for kind, files in pairs._asdict().items()
    }
    parts = _with_all_splits(path, found, validation)
    names = _class_names(path, parts["train"])
    if (path / CLASSES).exists():
        marks[CLASSES] = fingerprint.of_names(names)
    splits = {name: _split(pairs, shape, image_size, names, small) for name, pairs in parts.items()}
    sample = splits["train"].read(np.arange(splits["train"].size)[:: max(1, splits["train"].size // 2000)])["image"]
    mean, std = channel_statistics(sample, 256)
    train, held, test = (splits[name] for name in ("train", "validation", "test"))
    sizes = (train.size, held.size, test.size)
    spec = DataSpec(
        f"segments:{path}", shape, 256, None, names, sizes, mean, std, notes + told, marks, mask_classes=len(names)
    )
    return Data(spec, train, held, test)


def _found(path: Path, validation: int | None) -> tuple[dict[str, Pairs], tuple[str, ...]]:
    """The pairs of each folder that is a split, or of the whole as "train"; and what is not used."""
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; pass segments:DIR with images/ and masks/ in train/ and test/")
    roots = {SPLITS[e.name.lower()]: e for e in sorted(path.iterdir()) if e.is_dir() and e.name.lower() in SPLITS}
    if not roots:
        return {"train": _pairs(path)}, ()
    if "train" not in roots:
        raise DataError(f"{path} has {', '.join(e.name for e in roots.values())} but no train folder; add one")
    notes: tuple[str, ...] = ()
    if validation is not None and (unused := roots.pop("validation", None)) is not None:
        notes = (f"{unused.name}/ is not used, as validation={validation} training pairs were asked for",)
    return {split: _pairs(root) for split, root in roots.items()}, notes


def _pairs(root: Path) -> Pairs:
    folders = {}
    for kind in ("images", "masks"):
        place = root / kind
        if not place.is_dir():
            raise DataError(f"{root} has no folder {kind}; put images/ and masks/ into it, or into {root / 'train'}")
        files = [p for p in sorted(place.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
        by_name = {p.stem: p for p in files}
        if len(by_name) < len(files):
            twice = next(p for p in files if by_name[p.stem] != p)
            raise DataError(f"{place} has two files named {twice.stem!r}; keep one of them")
        folders[kind] = by_name
    images, masks = folders["images"], folders["masks"]
    if not images:
        raise DataError(f"{root / 'images'} has no image ({', '.join(SUFFIXES)}); add some")
    for have, lack, kind in ((images, masks, "mask"), (masks, images, "image")):
        if missing := [name for name in have if name not in lack]:
            raise DataError(
                f"{len(missing):,} of {len(have):,} files in {root} have no {kind} (the first: {have[missing[0]]}); "
                f"add {missing[0]}.png to {root / (kind + 's')}, or move the file away"
            )
    return Pairs(list(images.values()), [masks[name] for name in images])


def _with_all_splits(path: Path, found: Mapping[str, Pairs], validation: int | None) -> dict[str, Pairs]:
    """Training, validation and test pairs; what has no folder is taken from the training pairs, whatever they show."""
    parts = dict(found)
    for name in ("test", "validation"):
        if name not in parts:
            whole = parts["train"]
            alike = np.zeros(len(whole.images), np.int32)
            count = len(alike) if name == "test" else validation_count(str(path), len(alike), validation)
            rest, chosen = fifth(alike) if name == "test" else _drawn(alike, count)
            parts["train"], parts[name] = whole.pick(rest), whole.pick(chosen)
    return parts


def _drawn(alike: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.sort(np.random.default_rng(0).choice(len(alike), count, replace=False))
    return np.delete(np.arange(len(alike)), chosen), chosen


def _class_names(path: Path, train: Pairs) -> tuple[str, ...]:
    file = path / CLASSES
    if file.exists():
        names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    else:
        largest = max(int(np.max(mask, where=mask != IGNORED, initial=0)) for mask in map(read_mask, train.masks))
        names = tuple(map(str, range(largest + 1)))
    if len(names) < 2:
        raise DataError(f"{path} has one class of pixels only; masks need class numbers 0, 1, … (255 is ignored)")
    return names


def _split(
    pairs: Pairs, shape: tuple[int, int, int], image_size: int | None, names: tuple[str, ...], small: bool
) -> Split:
    def read(rows: np.ndarray) -> Rows:
        images, masks = np.zeros((len(rows), *shape), np.uint8), np.zeros((len(rows), *shape[:2]), np.uint8)
        for i, row in enumerate(rows):
            image, mask = decode(pairs.images[row]), read_mask(pairs.masks[row])
            _check_pair(pairs.masks[row], image.shape[:2], mask, names)
            images[i] = decode(pairs.images[row], shape, image_size=image_size)
            masks[i] = mask if image_size is None else fit(mask[..., None], image_size, nearest=True)[..., 0]
        return {"image": images, "mask": masks}

    split = Split(len(pairs.images), read)
    return in_memory(read(np.arange(split.size))) if small else split


def _check_pair(path: Path, sides: tuple[int, ...], mask: np.ndarray, names: tuple[str, ...]) -> None:
    if mask.shape != sides:
        raise DataError(
            f"{path} is {mask.shape[1]}×{mask.shape[0]}, its image {sides[1]}×{sides[0]}; save a mask of the same size"
        )
    bad = np.unique(mask[(mask >= len(names)) & (mask != IGNORED)])
    if len(bad):
        raise DataError(
            f"{path} has class {bad[0]}, and there are {len(names)} classes, 0 to {len(names) - 1} (255 is ignored); "
            "correct the mask, or name the class in classes.txt"
        )


def read_mask(path: Path) -> np.ndarray:
    """The class numbers uint8 [h, w] of a mask: the values of a grey PNG, or the numbers of a palette's colours.

    Raises `DataError` for another kind of file, colours, 16 bits, and damage.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            bits, _ = png_bits(path)
            # Pillow stretches grey of 2 and 4 bits to 0 … 255.
            if image.mode not in ("1", "L", "P") or (image.mode == "L" and bits != 8):
                raise DataError(
                    f"{path} is {image.mode} of {bits} bits, and a mask holds class numbers: save a grey PNG of 8 bits "
                    "whose values are 0, 1, … (255 is ignored)"
                )
            return np.array(image).astype(np.uint8)
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as a PNG ({error}); save masks as PNG, which keeps numbers") from None
