"""Paths from flags: of this machine's file systems."""

from pathlib import Path

from absl import flags

flags.DEFINE_string("out", None, "Where to write, instead of the place that the description of the program names.")

WAY = "runs lock and rename their files: name a local or mounted folder, and copy the run there afterwards"


def local(flag: str, text: str) -> Path:
    """The path that a flag names, `~` spelled out. Raises `ValueError` as `dlcore.addresses.local` does."""
    from dlcore import addresses  # here, so that help and lists do not wait for JAX

    return addresses.local(f"--{flag}", text, WAY)
