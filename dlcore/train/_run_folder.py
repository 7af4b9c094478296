"""The run folder: one run, one writer, and JSON files that are whole or absent."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dlcore.data import SPLITS, DataError, Fingerprint, changes
from dlcore.train._config import completed, differences


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write atomically: a kill leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """The values of a JSON file; raises `ValueError`, naming the file, when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is not a run folder: it has no {path.name}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); restore it or choose another --workdir") from None


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the folder for this process; the system lets go of it however the process ends.

    Makes the folder. Raises `ValueError` when it cannot be written or, unless told to wait, when another process
    holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise ValueError(f"cannot write to {folder} ({error.strerror}); choose another --workdir") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            raise ValueError(
                f"another process is writing to {folder}; wait for it or choose another --workdir"
            ) from None
        yield


LAYOUT = 2
"""Number of the layout of run folders. 1 kept one fit at the top of the folder; 2 has a folder for every stage."""


def check_layout(folder: Path) -> None:
    """Raise `ValueError` for a run folder of another layout than this version writes."""
    path = folder / "config.json"
    layout = read_json(path).get("layout", 1) if path.exists() else LAYOUT
    if layout != LAYOUT:
        age = "an earlier" if layout < LAYOUT else "a later"
        raise ValueError(
            f"{folder} holds a run of layout {layout}, of {age} version of dlcore; this one reads and writes layout "
            f"{LAYOUT}: choose another folder, or open it with that version"
        )


def check_identity(folder: Path, identity: Mapping[str, Any], config: Any = None) -> None:
    """Raise `ValueError`, with the differences, when the folder belongs to another run than `identity`.

    Settings of `config` that the folder does not tell of, for they are newer, have their defaults there.
    """
    path = folder / "config.json"
    check_layout(folder)
    if path.exists():
        held, names = read_json(path), [name for name in identity if name != "fingerprint"]
        if config is not None:
            held["config"] = completed(config, held.get("config", {}))
        if lines := differences({name: held.get(name) for name in names}, {name: identity[name] for name in names}):
            raise ValueError(
                f"{folder} holds another run ({'; '.join(lines)}); choose another --workdir or drop the flags"
            )
        check_data(folder, identity.get("fingerprint", {}))


def check_data(folder: Path, fingerprint: Fingerprint) -> None:
    """Raise `DataError`, with what changed, when the data is not what the run in the folder began with."""
    held = read_json(folder / "config.json").get("fingerprint", {})
    if not set(held) - set(SPLITS):
        # A run of arrays at hand from before those had marks of their own.
        fingerprint = {part: fingerprint[part] for part in fingerprint if part in SPLITS}
    if lines := changes(held, fingerprint):
        raise DataError(
            f"{folder} began with other data ({'; '.join(lines)}); restore the data, or start anew in another --workdir"
        )


def claim(folder: Path, identity: Mapping[str, Any], notes: Mapping[str, Any], config: Any = None) -> None:
    """Make the folder this run's: write `config.json`, or check the one there (see `check_identity`).

    `identity` is what makes the run what it is; `notes` may change between starts.
    """
    check_identity(folder, identity, config)
    write_json(folder / "config.json", {**identity, **notes})
