"""What can be trained: systems with their presets and settings, and data sets.

python -m launch.list
python -m launch.list --experiment=classify
"""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import textwrap
import typing
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

from dlcore.data import toy
from launch import request, runtime

WIDTH = 112


def main() -> None:
    """Print the systems and data sets; or, of one system, its description, presets and settings with their defaults."""
    name = flags.FLAGS.experiment
    lines = described(request.run.experiment_module(name)) if name else [*systems(sources()), "", *data()]
    print("\n".join(lines))


def sources() -> dict[str, ast.Module]:
    """The systems by name, read and not imported."""
    (folder,) = importlib.import_module("experiments").__path__
    names = sorted(module.name for module in pkgutil.iter_modules([folder]))
    return {name: ast.parse((Path(folder) / f"{name}.py").read_text(encoding="utf-8")) for name in names}


def systems(found: Mapping[str, ast.Module]) -> Iterator[str]:
    """Two lines for each system: what it is, and its presets."""
    yield "--experiment=   (with --experiment=NAME this program lists the settings of a system)"
    width = max(map(len, found))
    for name, tree in found.items():
        yield f"  {name:<{width}}  {(ast.get_docstring(tree) or '').splitlines()[0]}"
        yield f"  {'':<{width}}  --preset={'|'.join(presets(tree))}"


def presets(tree: ast.Module) -> tuple[str, ...]:
    """What `PRESETS` is set to."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "PRESETS":
            return tuple(ast.literal_eval(node.value))
    return ()


def data() -> Iterator[str]:
    """The data sets."""
    yield "--data="
    yield "  digits                 8×8 grey images of ten digits; installed with dlcore"
    yield "  fashion_mnist          28×28 grey images of ten kinds of clothes"
    yield "  idx:DIR, npz:FILE      images and labels in files"
    yield "  folder:DIR             images in a folder for each class"
    yield "  segments:DIR           images with masks of class numbers"
    yield "  tfds:NAME              of TensorFlow Datasets"
    yield f"  points of the plane:   {', '.join(toy.SETS)}"


def described(module: ModuleType) -> Iterator[str]:
    """What a system is, and its settings: `--set=NAME=VALUE`, its type, its default and what it does."""
    yield from (module.__doc__ or "").strip().splitlines()
    yield ""
    yield f"--preset={'|'.join(module.PRESETS)}"
    yield "--set=  (defaults where the preset says nothing else)"
    for name, kind, default, text in settings(module.Config):
        yield f"  {name}: {kind} = {default}"
        yield from textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")


def settings(config: Any, above: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(path, type, default, description) of every setting of a config class, groups of settings opened.

    `config` may be a config itself: its values are the defaults then.
    """
    kinds = config if isinstance(config, type) else type(config)
    hints, texts = typing.get_type_hints(kinds), descriptions(kinds)
    for field in dataclasses.fields(kinds):
        kind, path = hints[field.name], above + field.name
        value = default_of(field) if config is kinds else getattr(config, field.name)
        if dataclasses.is_dataclass(kind):
            yield from settings(kind if value is dataclasses.MISSING else value, f"{path}.")
        else:
            name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
            yield path, name, written(value), texts.get(field.name, "")


def default_of(field: Any) -> Any:
    """The default of a field, or `dataclasses.MISSING`."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def written(value: Any) -> str:
    """A value as `--set` would write it."""
    if value is dataclasses.MISSING:
        return "(must be given)"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "(empty)"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def descriptions(config: type) -> dict[str, str]:
    """The texts that stand below the fields of a dataclass, by field."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0].body
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


if __name__ == "__main__":
    runtime.run(main, uses=("experiment",))
