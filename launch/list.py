"""What can be trained: systems with their presets and settings, and data sets.

python -m launch.list
python -m launch.list --experiment=classify
"""

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from absl import flags

from launch import runtime

flags.DEFINE_string("experiment", None, "List the settings of this system.")

WIDTH = 112


def main() -> None:
    """Print the systems and data sets; or, of one system, its description, presets and settings with their defaults."""
    # What follows imports a good part of the library; `--help` need not wait for it.
    from dlcore.train import run

    name = flags.FLAGS.experiment
    if name is None:
        print("\n".join([*systems({name: run.experiment_module(name) for name in run.experiment_names()}), "", *data()]))
    else:
        print("\n".join(described(run.experiment_module(name))))


def systems(modules: dict[str, ModuleType]) -> Iterator[str]:
    """A line for each system, and its presets."""
    yield "--experiment="
    width = max(map(len, modules))
    for name, module in modules.items():
        yield f"  {name:<{width}}  {(module.__doc__ or '').strip().splitlines()[0]}"
        yield f"  {'':<{width}}  --preset={'|'.join(module.PRESETS)}"


def data() -> Iterator[str]:
    """The data sets."""
    from dlcore.data import toy

    yield "--data="
    yield "  digits                 8×8 grey images of ten digits; installed with dlcore"
    yield "  fashion_mnist          28×28 grey images of ten kinds of clothes"
    yield "  idx:DIR npz:FILE       images and labels in files; folder:DIR images by class; tfds:NAME of TensorFlow Datasets"
    yield f"  {' '.join(toy.SETS)}   points of the plane"


def described(module: ModuleType) -> Iterator[str]:
    """What a system is, and its settings: `--set=NAME=VALUE`, its type, its default and what it does."""
    yield from (module.__doc__ or "").strip().splitlines()
    yield ""
    yield f"--preset={'|'.join(module.PRESETS)}"
    yield "--set=  (defaults where the preset says nothing else)"
    for name, kind, default, text in settings(module.Config):
        yield f"  {name}: {kind} = {default}"
        yield from textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")


def settings(config: type, above: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(path, type, default, description) of every setting of a config, groups of settings opened."""
    hints, texts = typing.get_type_hints(config), descriptions(config)
    for field in dataclasses.fields(config):
        kind, path = hints[field.name], above + field.name
        if dataclasses.is_dataclass(kind):
            yield from settings(kind, f"{path}.")
        else:
            name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
            yield path, name, default_of(field), texts.get(field.name, "")


def default_of(field: Any) -> str:
    """The default of a field as `--set` would write it."""
    made = field.default_factory is not dataclasses.MISSING
    value = field.default_factory() if made else field.default
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
        for field, text in zip(body, body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


if __name__ == "__main__":
    runtime.run(main)
