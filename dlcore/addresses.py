"""Paths that people write: of this machine's file systems, `~` spelled out, and no addresses."""

import os
import re
from pathlib import Path

WAY = "name a local or mounted folder"


def local(name: str, text: str | os.PathLike, way: str = WAY) -> Path:
    """The path that `text` names; `way` says what to do where it is none of this machine.

    Raises `ValueError` for an address such as gs://bucket/run, which would become a folder called "gs:", and for
    nothing at all.

    >>> local("folder", "runs/first").as_posix()
    'runs/first'
    """
    given = os.fspath(text)
    if scheme := re.match(r"\s*([A-Za-z][\w+.-]*):/", given):
        way = "write the path alone" if scheme[1].lower() == "file" else way
        raise ValueError(f"{name}={given} is an address, not a path of this machine; {way}")
    if not given.strip():
        raise ValueError(f"{name} is empty; name a path, or leave it out for the default")
    return Path(given).expanduser()
