"""What a run ran on: versions, devices and the state of the code."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from dlcore.nn import how_convolutions_go

PACKAGES = ("dlcore", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")
COMPILERS = ("jax", "jaxlib")
COMPUTING = ("backend", "devices", "processes", "xla_flags", "matmul_precision", "convolutions")
"""Entries of an environment that the last bits of a result depend on."""


def describe() -> dict[str, Any]:
    """JSON-able facts about Python, packages, devices, the command and the git commit."""
    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
        "backend": jax.default_backend(),
        "devices": [f"{device.platform} {device.device_kind}" for device in devices],
        "processes": jax.process_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        "convolutions": how_convolutions_go(),
        "command": sys.argv,
        "git": _git(),
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of an environment has changed that may change the bits of a run which goes on in it, in words."""

    def facts(found: Mapping[str, Any]) -> dict[str, Any]:
        packages = found.get("packages", {})
        return {name: found.get(name) for name in COMPUTING} | {name: packages.get(name) for name in COMPILERS}

    old, new = facts(before), facts(now)
    return [f"{name} was {old[name]}, is {new[name]}" for name in old if old[name] not in (None, new[name])]


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _git() -> dict[str, Any]:
    root = Path(__file__).parents[2]

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *command], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "modified": None}
