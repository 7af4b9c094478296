"""Paths from flags: of this machine's file systems."""

import re
from pathlib import Path

from absl import flags

flags.DEFINE_string("out", None, "Where to write, instead of the place that the description of the program names.")


def local(flag: str, text: str) -> Path:
    """The path that a flag names, `~` spelled out.

    Raises `ValueError` for an address such as gs://bucket/run, which would become a folder called "gs:", and for
    nothing at all.
    """
    if scheme := re.match(r"\s*([A-Za-z][\w+.-]*):/", text):
        way = "runs lock and rename their files: name a local or mounted folder, and copy the run there afterwards"
        way = "write the path alone" if scheme[1] == "file" else way
        raise ValueError(f"--{flag}={text} is an address, not a folder of this machine; {way}")
    if not text.strip():
        raise ValueError(f"--{flag} is empty; name a path, or drop the flag for the default")
    return Path(text).expanduser()
