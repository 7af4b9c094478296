"""A figure as data: the name of a function of this room and its arguments, kept in files, drawn without anything else.

The arguments are arrays, numbers, texts, None, and dicts, lists and tuples of them. They come back equal: named tuples
with the same fields, ranges as lists, and arrays of dtypes that are not numpy's, such as bfloat16, as float32.
A folder of panels holds `panels.json`, in which every array stands as its number, and the arrays in `panels.npz`.
"""

import importlib
import importlib.util
import json
import re
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOM = __name__.rpartition(".")[0]


class Panel(NamedTuple):
    """A figure to be drawn: `function` is "module.function" of `dlcore.report`."""

    function: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]


def panel(function: str, *arguments: Any, **options: Any) -> Panel:
    """The figure `function(*arguments, **options)`, not drawn yet: `panel("figures.confusion", counts, names)`."""
    return Panel(function, arguments, options)


def draw(one: Panel) -> Any:
    """The figure, of matplotlib. Raises `ValueError` for a function that is none of this room's."""
    return _named(one.function)(*one.arguments, **one.options)


def save(panels: Mapping[str, Panel], folder: Path) -> None:
    """Write panels into a folder; raises `TypeError` for an argument that cannot be kept."""
    arrays: list[np.ndarray] = []
    kept = {
        name: {
            "function": one.function,
            "arguments": [_encode(value, arrays) for value in one.arguments],
            "options": {key: _encode(value, arrays) for key, value in one.options.items()},
        }
        for name, one in panels.items()
    }
    text = json.dumps(kept, ensure_ascii=False).encode("utf-8", "surrogatepass")
    folder.mkdir(parents=True, exist_ok=True)
    # A file that was there belongs to other arrays.
    (folder / "panels.json").unlink(missing_ok=True)
    np.savez_compressed(folder / "panels.npz", **{str(i): array for i, array in enumerate(arrays)})
    # Last: where there is this file, the arrays are whole.
    temporary = folder / ".panels.json"
    temporary.write_bytes(text)
    temporary.replace(folder / "panels.json")


def load(folder: Path) -> dict[str, Panel]:
    """The panels of a folder; none if it holds none."""
    if not (folder / "panels.json").exists():
        return {}
    kept = json.loads((folder / "panels.json").read_bytes().decode("utf-8", "surrogatepass"))
    with np.load(folder / "panels.npz", allow_pickle=False) as arrays:
        return {
            name: Panel(
                one["function"],
                tuple(_decode(value, arrays) for value in one["arguments"]),
                {key: _decode(value, arrays) for key, value in one["options"].items()},
            )
            for name, one in kept.items()
        }


def _named(name: str) -> Any:
    """The public function that a file of this room defines."""
    file, _, function = name.partition(".")
    if re.fullmatch(r"[a-z]\w*\.[A-Za-z]\w*", name) and importlib.util.find_spec(f"{ROOM}.{file}"):
        found = getattr(importlib.import_module(f"{ROOM}.{file}"), function, None)
        if callable(found) and found.__module__ == f"{ROOM}.{file}":
            return found
    raise ValueError(f"{name!r} names no figure; write file.function, a public function of a file of {ROOM}")


def _encode(value: Any, arrays: list[np.ndarray]) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or isinstance(plain, bool | int | float | str):
        return plain
    if hasattr(value, "__array__"):
        arrays.append(_array(value))
        return {"array": str(len(arrays) - 1)}
    if isinstance(value, Mapping):
        return {"items": [[_encode(k, arrays), _encode(v, arrays)] for k, v in value.items()]}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"fields": {name: _encode(item, arrays) for name, item in value._asdict().items()}}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, arrays) for item in value]}
    if isinstance(value, list | range):
        return [_encode(item, arrays) for item in value]
    raise TypeError(f"a panel keeps arrays, numbers, texts and collections of them, got {type(value).__name__}")


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise TypeError("a panel keeps arrays of numbers or texts, got one of objects; make it a list, or convert it")
    # Files of numpy would give back the bytes of a dtype that numpy does not know, and not say what they mean.
    foreign = array.dtype.kind == "V" and array.dtype.names is None
    return array.astype(np.float32) if foreign else array


def _decode(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "tuple" in value:
        return tuple(_decode(item, arrays) for item in value["tuple"])
    if "items" in value:
        return {_decode(k, arrays): _decode(v, arrays) for k, v in value["items"]}
    fields = {name: _decode(item, arrays) for name, item in value["fields"].items()}
    return namedtuple("Kept", fields)(**fields)
