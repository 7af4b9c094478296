"""One order of arguments over the whole public face: the key of what is random first, then params, state, batch."""

import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ORDER = ("params", "state", "batch")
DRAWN = ("sample", "init", "q_sample")
"""Functions whose product is random."""


def functions():
    """Every function of a room and of the name spaces that it lists, once."""
    found = {}
    for stub in sorted((ROOT / "dlcore").rglob("__init__.pyi")):
        room = importlib.import_module(".".join(stub.parent.relative_to(ROOT).parts))
        for name in dir(room):
            thing = getattr(room, name)
            within = vars(thing).items() if inspect.ismodule(thing) else [(name, thing)]
            for _, function in within:
                public = inspect.isfunction(function) and not function.__name__.startswith("_")
                if public and function.__module__.startswith("dlcore."):
                    found[f"{function.__module__}.{function.__qualname__}"] = function
    return sorted(found.items())


FUNCTIONS = functions()


def positional(function):
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, p in inspect.signature(function).parameters.items() if p.kind in kinds]


def test_there_are_many():
    assert len(FUNCTIONS) > 700


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_order(name, function):
    given = positional(function)
    if "key" in given:
        assert given[0] == "key", f"{name}{inspect.signature(function)}: a key comes first, or is a keyword"
    if name.rsplit(".", 1)[1] in DRAWN and "key" in inspect.signature(function).parameters:
        assert given[0] == "key", f"{name}: what it gives is random, so the key comes first"
    places = [given.index(part) for part in ORDER if part in given]
    assert places == sorted(places), f"{name}{inspect.signature(function)}: the order is params, state, batch"
    together = [part for part in given if part in ORDER]
    at = given.index(together[0]) if together else 0
    assert given[at : at + len(together)] == together, f"{name}: {', '.join(together)} stand together"
