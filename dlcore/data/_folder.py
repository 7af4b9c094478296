"""Folders of images, by class or without classes."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dlcore.data import _fingerprint as fingerprint
from dlcore.data._checks import DataError
from dlcore.data._decode import SUFFIXES, TO_8_BITS, Header, decode, read_header
from dlcore.data._source import Data, Rows, Split, fifth, image_data, streamed_data

IN_MEMORY_BYTES = 2**28
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= {"val": "validation", "valid": "validation", "validation": "validation"}
"""Names of folders, in lower case, that are splits rather than classes."""


class Files(NamedTuple):
    """The images of a split."""

    paths: list[Path]
    labels: np.ndarray
    """Class numbers int32 [n]; all 0 where there are no classes."""


Rest = Counter[str]
"""How many files of each kind are not used as images of a class."""


def load(path: Path, *, validation: int | None = None, image_size: int | None = None) -> Data:
    """PNG, JPEG, BMP, TIFF, WEBP and GIF images in a folder per class, or in `train/`, `test/`, `val/` of such folders.

    Where there are no folders of classes, the images themselves count, without labels. Images in folders below a class
    count to it. Without `test/` a fixed stratified fifth of all (of `train/`) is the test split, a function of the
    sorted names alone. `val/` (`valid/`, `validation/`) is the validation split, unless `validation` asks for a number
    of training examples. Images are RGB if any has colours, else grey; `image_size` makes them square (see
    `decode.fit`). Sets that decode to more than 256 MiB are read as needed.
    What is not used, and what is changed, is counted in the notes. Raises `DataError`.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; pass folder:DIR with one folder of images per class")
    roots, notes = _roots(path, validation)
    names = _class_names(roots["train"])
    rest: Rest = Counter()
    found = {split: (_listed if names else _flat)(root, names, rest) for split, root in roots.items()}
    notes += _unused(rest)
    paths = [file for files in found.values() for file in files.paths]
    notes += _nested(roots, found) + _links(paths)
    notes += () if names else (f"there are no folders of classes: {len(paths):,} images without labels",)
    shape, told = survey(paths, _headers(paths), image_size)
    notes += told
    in_memory = len(paths) * int(np.prod(shape)) <= IN_MEMORY_BYTES
    marks = _fingerprint(path, found, names, contents=in_memory)
    if "test" not in found:
        whole = found["train"]
        found["train"], found["test"] = (_pick(whole, rows) for rows in fifth(whole.labels))
        if roots["train"] != path:
            held = f"({len(found['test'].paths):,} of {len(whole.paths):,} images)"
            notes += (f"there is no test folder: a fixed fifth of {roots['train'].name}/ {held} is the test split",)
    splits = {
        split: Split(len(files.paths), _reader(files, shape, image_size, bool(names))) for split, files in found.items()
    }
    told = {"validation": validation, "class_names": names, "notes": notes, "fingerprint": marks}
    if in_memory:
        rows = {split: part.read(np.arange(part.size)) for split, part in splits.items()}
        return image_data(f"folder:{path}", rows["train"], rows["test"], held=rows.get("validation"), **told)
    held = splits.get("validation")
    return streamed_data(
        f"folder:{path}", splits["train"], splits["test"], held=held, labels=found["train"].labels, **told
    )


def _folders(path: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out, in the order of their names."""
    return sorted((e for e in path.iterdir() if e.is_dir() and not e.name.startswith(".")), key=lambda e: e.name)


def _roots(path: Path, validation: int | None) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folder of each split, or the whole as "train"; and what is to be said about it."""
    folders = _folders(path)
    named = [(SPLITS[e.name.lower()], e) for e in folders if e.name.lower() in SPLITS]
    kinds = Counter(split for split, _ in named)
    others = [e for e in folders if e.name.lower() not in SPLITS]
    # A class may be called "train": splits are meant where there are two, or nothing else.
    if "train" not in kinds or (len(kinds) == 1 and others):
        for _, e in named:
            if _folders(e) and not any(map(_is_image, e.iterdir())):
                raise DataError(
                    f"{e} holds folders, as a split does, and there is no split beside it to train on; "
                    f"put the folders of classes into {path / 'train'}, or give {e.name!r} another name"
                )
        return {"train": path}, ()
    if twice := [split for split, count in kinds.items() if count > 1]:
        same = ", ".join(e.name for split, e in named if split == twice[0])
        raise DataError(f"{path} has several {twice[0]} folders ({same}); keep their images in one")
    roots, notes = dict(named), []
    if validation is not None and "validation" in roots:
        unused = roots.pop("validation")
        notes.append(
            f"{unused.name}/ ({_images(unused):,} images) is not used, as validation={validation} training "
            "examples were asked for"
        )
    notes += [f"{e.name}/ ({_images(e):,} images) is not used, as it lies beside train/" for e in others]
    if loose := sum(map(_is_image, path.iterdir())):
        notes.append(f"images that are not used, as they lie beside train/: {loose:,}")
    return roots, tuple(notes)


def _class_names(path: Path) -> tuple[str, ...]:
    """The folders in a folder; none where images lie in it instead."""
    names = tuple(e.name for e in _folders(path))
    if not names and not any(map(_is_image, path.iterdir())):
        kinds = ", ".join(SUFFIXES)
        raise DataError(f"{path} has neither images ({kinds}) nor folders; put those of each class in a folder")
    if len(names) == 1:
        raise DataError(
            f"{path} has one class only, {names[0]!r}; put images of a second class in a folder beside it, or pass "
            f"folder:{path / names[0]} to a system that needs no labels"
        )
    return names


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _images(path: Path) -> int:
    return sum(map(_is_image, _walk(path)))


def _walk(path: Path) -> Iterator[Path]:
    """All files below a folder, through links too, each folder once."""
    seen = set()
    for place, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in files)


def _listed(root: Path, names: tuple[str, ...], rest: Rest) -> Files:
    """The images of a split in the order of their names; what is no image of a class is counted in `rest`."""
    if extra := [e.name for e in _folders(root) if e.name not in names]:
        raise DataError(f"{root} has a class {extra[0]!r} that the training split lacks")
    rest.update("images outside the folders of classes" for e in root.iterdir() if _is_image(e))
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        files = sorted(_walk(root / name), key=lambda file: file.relative_to(root).as_posix())
        shown = [file for file in files if not _is_hidden(file.relative_to(root))]
        images = [file for file in shown if _is_image(file)]
        if not images:
            kinds = ", ".join(SUFFIXES)
            raise DataError(
                f"{root / name} has no image (files: {len(files)}, none of {kinds}); every class needs some in every "
                "split: add or convert images, or move the folder to another place"
            )
        rest.update(file.suffix.lower() or "without ending" for file in shown if not _is_image(file))
        rest.update("hidden images" for file in set(files) - set(shown) if _is_image(file))
        paths += images
        labels += [label] * len(images)
    return Files(paths, np.array(labels, np.int32))


def _flat(root: Path, names: tuple[str, ...], rest: Rest) -> Files:
    """The images of a split without classes, those in the folder itself, in the order of their names."""
    if folders := [e.name for e in _folders(root)]:
        raise DataError(f"{root} has a class {folders[0]!r}, and the training split has none")
    files = sorted((e for e in root.iterdir() if not e.is_dir()), key=lambda e: e.name)
    paths = [file for file in files if _is_image(file) and not file.name.startswith(".")]
    rest.update(e.suffix.lower() or "without ending" for e in files if not _is_image(e) and not e.name.startswith("."))
    rest.update("hidden images" for e in files if _is_image(e) and e.name.startswith("."))
    if not paths:
        raise DataError(f"{root} has no image; every split needs some")
    return Files(paths, np.zeros(len(paths), np.int32))


def _unused(rest: Rest) -> tuple[str, ...]:
    if not rest:
        return ()
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in rest.most_common())
    return (f"files that are not used: {rest.total():,} ({kinds})",)


def _nested(roots: Mapping[str, Path], found: Mapping[str, Files]) -> tuple[str, ...]:
    depths = [len(file.relative_to(roots[split]).parts) for split, files in found.items() for file in files.paths]
    deep = sum(depth > 2 for depth in depths)
    return (f"{deep:,} of {len(depths):,} images lie in folders below a class and count to it",) if deep else ()


def _links(paths: list[Path]) -> tuple[str, ...]:
    same = len(paths) - len(set(map(os.path.realpath, paths)))
    if not same:
        return ()
    return (f"{same:,} of {len(paths):,} images are links to others: one picture may be in training and test",)


def _headers(paths: list[Path]) -> list[Header]:
    """The headers of all files; raises one `DataError` for all that cannot be used."""
    headers, errors = [], []
    for path in paths:
        try:
            headers.append(read_header(path))
        except DataError as error:
            errors.append(error)
    if len(errors) > 1:
        raise DataError(f"{len(errors):,} of {len(paths):,} images cannot be used, the first: {errors[0]}")
    if errors:
        raise errors[0]
    return headers


def _pick(files: Files, rows: np.ndarray) -> Files:
    return Files([files.paths[row] for row in rows], files.labels[rows])


def _fingerprint(
    path: Path, found: Mapping[str, Files], names: tuple[str, ...], *, contents: bool
) -> fingerprint.Fingerprint:
    """Files by class if there are classes, and by split where the splits are folders."""
    marks = {}
    for split, files in found.items():
        place = "" if len(found) == 1 else f"{split}: "
        if not names:
            marks[f"{place}images"] = fingerprint.of_files(path, files.paths, contents=contents)
        for label, name in enumerate(names):
            own = [files.paths[row] for row in np.flatnonzero(files.labels == label)]
            marks[f"{place}class {name}"] = fingerprint.of_files(path, own, contents=contents)
    return marks


def survey(
    paths: list[Path], headers: list[Header], image_size: int | None
) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """The common shape (h, w, c) of images, and what to say of those that are changed on the way to it.

    The set decides: any colour makes all RGB. Raises `DataError` for several sizes without an `image_size`.
    """
    total, notes = len(headers), []
    sizes = Counter(header.size for header in headers)
    usual = sizes.most_common(1)[0][0] if image_size is None else (image_size, image_size)
    odd = [i for i, header in enumerate(headers) if header.size != usual]
    if odd and image_size is None:
        raise DataError(
            f"{len(odd):,} of {total:,} images are not {usual[1]}×{usual[0]} (the first: {paths[odd[0]]}, "
            f"{headers[odd[0]].size[1]}×{headers[odd[0]].size[0]}); pass --image_size={min(usual)}, or resize them"
        )
    deep = [path for path, header in zip(paths, headers, strict=True) if header.deep]
    if deep and image_size is None:
        raise DataError(
            f"{len(deep):,} of {total:,} images have more than 8 bits per channel (the first: {deep[0]}); {TO_8_BITS}"
        )
    if odd:
        notes.append(f"{len(odd):,} of {total:,} images are resized and cut to {image_size}×{image_size}")
    if deep:
        notes.append(f"{len(deep):,} of {total:,} images have 16 bits per channel, of which the upper 8 are kept")
    colour, transparent, several = (
        sum(getattr(header, kind) for header in headers) for kind in ("colour", "transparent", "frames")
    )
    if 0 < colour < total:
        notes.append(f"{total - colour:,} of {total:,} images are grey and become RGB, as the rest has colours")
    if transparent:
        notes.append(f"{transparent:,} of {total:,} images may be transparent; those parts are laid on white")
    if several:
        notes.append(f"{several:,} of {total:,} files hold several frames; the first is used")
    return (*usual, 3 if colour else 1), tuple(notes)


def survey_of(paths: list[Path], image_size: int | None) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """`survey` of the headers of these files."""
    return survey(paths, _headers(paths), image_size)


def _reader(
    files: Files, shape: tuple[int, ...], image_size: int | None, labelled: bool
) -> Callable[[np.ndarray], Rows]:
    def read(rows: np.ndarray) -> Rows:
        images = np.zeros((len(rows), *shape), np.uint8)
        for i, row in enumerate(rows):
            images[i] = decode(files.paths[row], shape, image_size=image_size)
        return {"image": images, "label": files.labels[rows]} if labelled else {"image": images}

    return read
