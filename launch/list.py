"""What can be trained: systems with their presets and settings, and data sets.

python -m launch.list
python -m launch.list --experiment=classify
"""

import ast
import importlib.util
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from absl import flags

from launch import request, runtime, settings
from launch.settings import Source

WIDTH = 112


def main() -> None:
    """Print the systems and data sets; or, of one system, its description, presets and settings with their defaults."""
    name = flags.FLAGS.experiment
    lines = described(source(name)) if name else [*systems(sources()), "", *data()]
    print("\n".join(lines))


def sources() -> dict[str, Source]:
    """The systems by name, read and not imported."""
    (folder,) = importlib.util.find_spec("experiments").submodule_search_locations
    return {path.stem: settings.read(path) for path in sorted(Path(folder).glob("[!_]*.py"))}


def source(name: str) -> Source:
    """A system by name, or one of the user's own by its full name; raises `ValueError`, naming the nearest."""
    if "." in name:
        try:
            return settings.module(name)
        except ModuleNotFoundError as error:
            raise ValueError(f"experiment {name!r} cannot be found: {error}") from None
    if name not in (known := sources()):
        from dlcore.lookup import check_name

        check_name("experiment", name, known)
    return known[name]


def systems(found: Mapping[str, Source]) -> Iterator[str]:
    """Two lines for each system: what it is, and its presets."""
    yield "--experiment=   (with --experiment=NAME this program lists the settings of a system)"
    width = max(map(len, found))
    for name, one in found.items():
        yield f"  {name:<{width}}  {(ast.get_docstring(one.tree) or '').splitlines()[0]}"
        yield f"  {'':<{width}}  --preset={'|'.join(one.assigned('PRESETS'))}"


def data() -> Iterator[str]:
    """The data sets."""
    yield "--data="
    yield "  digits                 8×8 grey images of ten digits; installed with dlcore"
    yield "  fashion_mnist          28×28 grey images of ten kinds of clothes"
    yield "  idx:DIR, npz:FILE      images and labels in files; npz also images alone, for systems that need no labels"
    yield "  folder:DIR             images in a folder for each class, or in one folder for systems that need no labels"
    yield "  segments:DIR           images with masks of class numbers"
    yield "  tfds:NAME              of TensorFlow Datasets"
    yield f"  points of the plane:   {', '.join(settings.module('dlcore.data.toy').assigned('SETS'))}"


def described(one: Source) -> Iterator[str]:
    """What a system is, and its settings: `--set=NAME=VALUE`, its type, its default and what it does."""
    yield from (ast.get_docstring(one.tree) or "").splitlines()
    yield ""
    yield f"--preset={'|'.join(one.assigned('PRESETS'))}"
    yield "--set=  (defaults where the preset says nothing else)"
    for path, kind, default, text in settings.settings(one):
        yield f"  {path}: {kind} = {default}"
        yield from textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")


if __name__ == "__main__":
    runtime.run(main, uses=request.FLAGS[:1])
