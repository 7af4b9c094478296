"""Rooms whose public names are loaded when they are first asked for.

A room lists its names in `__init__.pyi`, where editors and type checkers look them up too.
"""

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def exports(room: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of the package `room`, from the stub beside its `file`."""
    where = listed(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"{room} has no {name!r}; dir({room}) lists what it has")
        source = where[name]
        if source is None:
            return importlib.import_module(f"{room}.{name}")
        found = getattr(importlib.import_module(f"{room}.{source}"), name)
        setattr(sys.modules[room], name, found)
        return found

    return find, lambda: sorted(where), sorted(where)


def listed(stub: str) -> dict[str, str | None]:
    """By name the file of a room that defines it, from `from .file import name as name`; None for a room within it."""
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module for node in imports for alias in node.names}
