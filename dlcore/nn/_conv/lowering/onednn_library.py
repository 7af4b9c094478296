"""The C++ of `onednn.cc`, compiled at first use against the wheels of the extra `onednn` (lecture 14.1–14.5).

The wheels `onednn-cpu-gomp` and `onednn-devel-cpu-gomp` hold oneDNN as a library and its headers, for Linux on x86-64.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path

import jax
import jaxlib

SOURCE = Path(__file__).with_name("onednn.cc")
FLAGS = ("-std=c++17", "-O2", "-w", "-fPIC", "-shared", "-fopenmp")
TARGETS = {name: f"dlcore_{name}" for name in ("conv_value", "conv_input", "conv_kernel")}
"""Functions of the library, and their names in XLA."""


class UnavailableError(RuntimeError):
    """Why oneDNN cannot be used here."""


@functools.cache
def status() -> str:
    """Empty where oneDNN's convolutions can be used; else why not, and what to do."""
    try:
        library()
    except UnavailableError as reason:
        return str(reason)
    return ""


@functools.cache
def available() -> bool:
    """Whether oneDNN's convolutions can be used; compiles them at the first call.

    Warns where the extra is installed and cannot be used; who has not installed it is not bothered.
    """
    reason = status()
    if reason and installed():
        warnings.warn(f"convolutions go without oneDNN: {reason}", RuntimeWarning, stacklevel=2)
    return not reason


@functools.cache
def installed() -> bool:
    """Whether the wheels of the extra are there."""
    try:
        return all(metadata.version(name) for name in ("onednn-cpu-gomp", "onednn-devel-cpu-gomp"))
    except metadata.PackageNotFoundError:
        return False


@functools.cache
def bfloat16() -> bool:
    """Whether oneDNN computes bfloat16 on this CPU."""
    return bool(library().has_bfloat16())


@functools.cache
def avx512() -> bool:
    """Whether oneDNN computes with AVX-512 on this CPU."""
    return bool(library().has_avx512())


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled library, its functions registered with XLA; raises `UnavailableError`."""
    if not installed():
        raise UnavailableError("the extra is not installed; pip install 'dlcore[onednn]' (Linux on x86-64)")
    include, shared = (
        _wheel_file("onednn-devel-cpu-gomp", "oneapi/dnnl/dnnl.hpp"),
        _wheel_file("onednn-cpu-gomp", "libdnnl.so.3"),
    )
    try:
        loaded = ctypes.CDLL(str(_compiled(include.parents[2], shared)))
    except OSError as error:
        raise UnavailableError(f"the compiled library does not load ({error})") from None
    for name, target in TARGETS.items():
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(loaded, name)), platform="cpu")
    return loaded


def _wheel_file(distribution: str, ending: str) -> Path:
    for file in metadata.files(distribution) or ():
        if str(file).endswith(ending) and (path := Path(str(file.locate())).resolve()).is_file():
            return path
    raise UnavailableError(f"{distribution} lacks {ending}; install it again")


def _compiled(include: Path, shared: Path) -> Path:
    """The library in the cache folder, named by all that it was made from."""
    parts = (SOURCE.read_bytes(), jaxlib.__version__, metadata.version("onednn-cpu-gomp"), str(shared), FLAGS)
    path = _folder() / f"onednn-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.so"
    if path.exists():
        return path
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if compiler is None:
        raise UnavailableError("there is no C++ compiler; install g++ (apt-get install g++)")
    print("dlcore: compiling oneDNN's convolutions (once, some ten seconds)", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        includes = (f"-I{jax.ffi.include_dir()}", f"-I{include}")
        command = [
            compiler,
            *FLAGS,
            str(SOURCE),
            *includes,
            "-o",
            str(made),
            str(shared),
            f"-Wl,-rpath,{shared.parent}",
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            told = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            raise UnavailableError(f"{compiler} failed ({told[0] if told else error})") from None
        os.replace(made, path)  # at once, so that another process never sees half of it
    return path


def _folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dlcore"
    try:
        base.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=base).close()
    except OSError as error:
        raise UnavailableError(
            f"the cache folder {base} cannot be written ({error.strerror}); set XDG_CACHE_HOME"
        ) from None
    return base
