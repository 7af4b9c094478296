"""What a data set was when a run began, as JSON values, and what has changed since.

A fingerprint maps parts of the data ("class cat", "x_train", "training split") to what can be said of them: counts
that people read, and a digest of the bytes where those are at hand.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Fingerprint = Mapping[str, Mapping[str, Any]]

SPLITS = ("training split", "validation split", "test split")
MOST_LINES = 5
"""Changes that are told one by one."""


def of_array(values: np.ndarray) -> dict[str, Any]:
    """Shape, dtype and the SHA-256 of the bytes of an array."""
    digest = hashlib.sha256(np.ascontiguousarray(values).data)
    return {"shape": list(values.shape), "dtype": str(values.dtype), "sha256": digest.hexdigest()}


def of_files(root: Path, files: Sequence[Path], *, contents: bool) -> dict[str, Any]:
    """Number, bytes and a SHA-256 over names below `root` and sizes of files, and over what they hold if `contents`."""
    digest, total = hashlib.sha256(), 0
    for path in files:
        data, size = (path.read_bytes() if contents else b""), path.stat().st_size
        name = path.relative_to(root).as_posix().encode("utf-8", "surrogateescape")
        # Lengths first: no two lists of files run together to the same bytes.
        digest.update(f"{len(name)} {size} {len(data)} ".encode() + name)
        digest.update(data)
        total += size
    return {"files": len(files), "bytes": total, "sha256": digest.hexdigest()}


def of_names(names: Sequence[str]) -> dict[str, Any]:
    """Number of names and a SHA-256 of them in their order."""
    return {"names": len(names), "sha256": hashlib.sha256("\n".join(names).encode()).hexdigest()}


def with_splits(fingerprint: Fingerprint, sizes: tuple[int, int, int]) -> dict[str, Any]:
    """The fingerprint and the sizes of the splits, in which a change of the data or of their choice shows."""
    return {**fingerprint, **{name: {"examples": size} for name, size in zip(SPLITS, sizes, strict=True)}}


def changes(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Where two fingerprints differ, one line each: `class cat has 61 files, 60 when the run began`.

    Sizes of splits are told where nothing else differs; after five lines the others are counted.
    """
    differing = [part for part in (*old, *(part for part in new if part not in old)) if old.get(part) != new.get(part)]
    differing = [part for part in differing if part not in SPLITS] or differing
    lines = [_change(part, old.get(part), new.get(part)) for part in differing]
    return lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], f"{len(lines) - MOST_LINES} more"]


def _change(part: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> str:
    if old is None or new is None:
        return f"{part} is new ({_told(new)})" if new else f"{part} is gone ({_told(old or {})} when the run began)"
    for what in new:
        if what != "sha256" and new[what] != old.get(what):
            return f"{part} has {_value(what, new[what])}, {_value('', old.get(what))} when the run began"
    return f"{part} changed (as many, with other names or contents)" if "files" in new else f"{part} changed"


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(_value(what, value) for what, value in values.items() if what != "sha256")


def _value(what: str, value: Any) -> str:
    number = f"{value:,}" if isinstance(value, int) else str(value)
    if isinstance(value, int):
        return f"{number} {what}".strip()
    return f"{what} {number}".strip()
