"""The settings of a system, read from its source: nothing is imported, so that a list of them comes at once."""

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

MISSING = "(must be given)"


class Setting(NamedTuple):
    """One setting: `--set=path=VALUE`."""

    path: str
    kind: str
    default: str
    text: str


class Source(NamedTuple):
    """A module as it is written."""

    path: Path
    tree: ast.Module

    def assigned(self, name: str) -> Any:
        """The literal that a name of the module is set to; raises `KeyError` where there is none."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
                return ast.literal_eval(node.value)
        raise KeyError(name)


def read(path: Path) -> Source:
    """The source in a file."""
    return Source(path, ast.parse(path.read_text(encoding="utf-8")))


def module(name: str) -> Source:
    """The source of a module or package by its full name, which is not imported; the packages above it are.

    Raises `ModuleNotFoundError`.
    """
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {name!r}")
    path = Path(spec.origin)
    for part in rest:
        path = _within(path.parent, part)
    return read(path)


def _within(folder: Path, part: str) -> Path:
    for path in (folder / f"{part}.py", folder / part / "__init__.pyi", folder / part / "__init__.py"):
        if path.exists():
            return path
    raise ModuleNotFoundError(f"no module {part!r} in {folder}")


def settings(
    source: Source, config: str = "Config", above: str = "", given: dict[str, str] | None = None
) -> Iterator[Setting]:
    """Every setting of the dataclass `config` of a module, groups of settings opened.

    `given` are defaults that the group above sets, by name.
    """
    node, texts = _class(source, config), descriptions(_class(source, config))
    for field in node.body:
        if not isinstance(field, ast.AnnAssign):
            continue
        name, kind = field.target.id, ast.unparse(field.annotation)
        if (found := _group(source, kind)) is not None:
            yield from settings(found, kind, f"{above}{name}.", _group_defaults(field.value))
        else:
            default = (given or {}).get(name) or written(source, field.value)
            yield Setting(above + name, kind, default, texts.get(name, ""))


def descriptions(config: ast.ClassDef) -> dict[str, str]:
    """The texts that stand below the fields of a dataclass, by field."""
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(config.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def written(source: Source, value: ast.expr | None) -> str:
    """A default as `--set` would write it."""
    if value is None:
        return MISSING
    try:
        return shown(_value(source, value))
    except ValueError:
        return ast.unparse(value)


def shown(value: Any) -> str:
    """The value of a setting as `--set` would write it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "(empty)"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _value(source: Source, value: ast.expr) -> Any:
    """A literal, the literal that a name stands for, or `tuple(name)` of the keys of a dict.

    Raises `ValueError` for anything else.
    """
    match value:
        case ast.Name(id=name) if (found := _defined(source, name)) is not None:
            return _value(found[0], found[1].value)
        case ast.Call(func=ast.Name(id="tuple"), args=[ast.Name(id=name)]) if found := _defined(source, name):
            table = found[1].value
            keys = table.keys if isinstance(table, ast.Dict) else table.elts
            return tuple(_value(found[0], key) for key in keys)
    return ast.literal_eval(value)


def _class(source: Source, name: str) -> ast.ClassDef:
    return next(node for node in source.tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _defined(source: Source, name: str) -> tuple[Source, Any] | None:
    """Where a name of a module is defined, there or in what it imports of dlcore: a class or an assignment."""
    for node in source.tree.body:
        match node:
            case ast.ClassDef(name=found) | ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                return source, node
            case ast.Assign(targets=[ast.Name(id=found)]) if found == name:
                return source, node
            case ast.ImportFrom(names=names) if any((alias.asname or alias.name) == name for alias in names):
                if node.level:
                    return _defined(read(_within(source.path.parent, node.module)), name)
                return _defined(module(node.module), name) if node.module.startswith("dlcore") else None
    return None


def _group(source: Source, kind: str) -> Source | None:
    """The module that defines a class of settings which a module uses; None for what is no such class."""
    found = _defined(source, kind) if kind.isidentifier() else None
    return found[0] if found is not None and isinstance(found[1], ast.ClassDef) else None


def _group_defaults(value: ast.expr | None) -> dict[str, str]:
    """What `field(default_factory=lambda: Group(name=value))` sets, by name."""
    factories = [word.value for word in getattr(value, "keywords", ()) if word.arg == "default_factory"]
    call = factories[0].body if factories and isinstance(factories[0], ast.Lambda) else None
    return {word.arg: ast.unparse(word.value) for word in getattr(call, "keywords", ())}
