"""`.safetensors` files as NumPy arrays by name, every float type included, and what is wrong with those that are not.

PyTorch itself is not needed.
"""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from dlcore.addresses import local

DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16,
    "F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2, "C64": np.complex64, "BOOL": np.bool_,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
}  # fmt: skip
"""The format's names of types."""

OTHERS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the weights it points to; run `git lfs pull` beside it",
    b"PK\x03\x04": "is a PyTorch archive; write its state_dict with safetensors.torch.save_file",
    b"\x80": "is a pickle; write its state_dict with safetensors.torch.save_file",
    b"\x89HDF": "is an HDF5 file; convert it to .safetensors",
    b"\x1f\x8b": "is compressed; unpack it",
    b"<": "is a web page; download the file itself",
    b"{": "is text, perhaps the index of weights in several files; read those",
}
"""What other files begin with, and what to do with them."""


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a `.safetensors` file by name, mapped from the file and read when they are used.

    Raises `ValueError`, naming the file, for anything else, for a file that is cut short or missing, and naming the
    tensor for a type that NumPy cannot hold.
    """
    path, header, start = _header(path)
    header.pop("__metadata__", None)
    return {name: _tensor(path, name, entry, start) for name, entry in header.items()}


def metadata(path: str | os.PathLike) -> dict[str, str]:
    """What a `.safetensors` file says beside its tensors, text by name. Raises `ValueError` as `load` does."""
    return _header(path)[1].get("__metadata__", {})


def _header(path: str | os.PathLike) -> tuple[Path, dict[str, Any], int]:
    """The path, the header, and where the tensors begin."""
    path = local("path", path, "fetch the file, and name it here")
    try:
        with path.open("rb") as file:
            start = file.read(64)
            for magic, advice in OTHERS.items():
                # Eight bytes of length come first: those of a header this long begin like other files by chance only.
                if start.startswith(magic) and start[8:9] != b"{":
                    raise ValueError(f"{path} {advice}")
            with safe_open(path, framework="np"):
                pass  # the header and the file's length are right, else it raises
            file.seek(0)
            size = int.from_bytes(file.read(8), "little")
            return path, json.loads(file.read(size)), 8 + size
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}); pass a .safetensors file") from None
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole .safetensors file ({error}); fetch it again") from None


def _tensor(path: Path, name: str, entry: dict, start: int) -> np.ndarray:
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"{path}: {name} is of type {entry['dtype']}, which NumPy cannot hold; store it as F32")
    dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"])
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", offset=start + entry["data_offsets"][0], shape=shape)


def cast(name: str, x: np.ndarray, dtype: Any) -> jax.Array:
    """The array in this dtype.

    Raises `ValueError`, naming it, for values beyond its range, and for one that holds floats where the other does not.
    """
    if jnp.issubdtype(x.dtype, jnp.floating) != jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} is {x.dtype}, wanted {jnp.dtype(dtype)}; store the weights as floats")
    if not jnp.issubdtype(dtype, jnp.floating):
        return jnp.asarray(x, dtype)
    with np.errstate(over="ignore"):
        value = np.asarray(x).astype(dtype)
    if jnp.finfo(x.dtype).max > jnp.finfo(dtype).max and (np.isinf(value) & np.isfinite(x)).any():
        raise ValueError(f"{name} holds values beyond the range of {jnp.dtype(dtype)}; read it into a wider dtype")
    return jnp.asarray(value)
