"""Pages of the public names: one for each room, from the stub that lists them."""

import importlib
import inspect
from pathlib import Path
from types import ModuleType

from dlcore.lazy import listed
from docs.making.docstrings import described, rst, signature


def write(target: Path) -> None:
    """A page for dlcore, for each of its rooms and for each public module."""
    target.mkdir(parents=True, exist_ok=True)
    for name in modules("dlcore"):
        text = "\n".join(page(name)) + "\n"
        (target / f"{name}.rst").write_text(text, encoding="utf-8")


def modules(name: str) -> list[str]:
    """A room, and all public modules below it."""
    inside = [f"{name}.{child}" for child, source in names(importlib.import_module(name)).items() if source is None]
    return [name, *(deeper for child in sorted(inside) for deeper in modules(child))]


def names(module: ModuleType) -> dict[str, str | None]:
    """The public names of a module, each with the file that defines it; None for a module below a room."""
    stub = Path(module.__file__).with_suffix(".pyi")
    if stub.exists():
        return listed(stub.read_text(encoding="utf-8"))
    texts = described(inspect.getsource(module))
    own = [n for n, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return {n: "" for n in sorted({*own, *texts}) if not n.startswith("_") and hasattr(module, n)}


def page(name: str) -> list[str]:
    """The page of a module: what it is, the modules below it, and its names."""
    module = importlib.import_module(name)
    found = names(module)
    below = sorted(f"{name}.{child}" for child, source in found.items() if source is None)
    lines = [name, "=" * len(name), "", f".. py:module:: {name}", ""]
    lines += rst(module.__doc__ or "", formula=False)
    if below:
        lines += [".. toctree::", "   :maxdepth: 1", "", *(f"   {child}" for child in below), ""]
    for member, source in sorted(found.items()):
        if source is not None:
            options = (":members:",) if inspect.isclass(getattr(module, member)) else ()
            lines += [*entry(module, member, *options), ""]
    return lines


def entry(module: ModuleType, name: str, *options: str) -> list[str]:
    """The directive that documents one name with its `options`: a function, a class, or a value."""
    thing, full = getattr(module, name), f"{module.__name__}.{name}"
    if inspect.isclass(thing):
        return [f".. autoclass:: {full}", *(f"   {option}" for option in options)]
    if callable(thing) and signature(thing):
        return [f".. autofunction:: {full}", *(f"   {option}" for option in options)]
    head = [f".. py:data:: {full}", *(f"   {option}" for option in options), ""]
    return head + [f"   {line}" for line in rst(value_text(module, name))]


def value_text(module: ModuleType, name: str) -> str:
    """What is said below the assignment of a value, in the file that makes it."""
    stub = Path(module.__file__).with_suffix(".pyi")
    inside = listed(stub.read_text(encoding="utf-8")) if stub.exists() else {}
    where = importlib.import_module(f"{module.__name__}.{inside[name]}") if inside.get(name) else module
    return described(inspect.getsource(where)).get(name, "")
