"""One order of arguments over the whole public face: the key of what is random first, then params, state, batch."""

import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ORDER = ("params", "state", "batch")
DRAWN = ("sample", "init", "q_sample")
"""Functions whose product is random."""
AT_A_PROMPT = ("dlcore.train.session.OpenRun.sample",)
"""Methods of an opened run, whose key has a default: a keyword."""


def of_class(thing):
    """The public methods of a public class, beside what is told only to make one."""
    return [method for name, method in vars(thing).items() if inspect.isfunction(method) and not name.startswith("_")]


def functions():
    """Every function of a room and of the name spaces that it lists, once: compiled ones and methods as well."""
    found = {}
    for stub in sorted((ROOT / "dlcore").rglob("__init__.pyi")):
        room = importlib.import_module(".".join(stub.parent.relative_to(ROOT).parts))
        for name in dir(room):
            thing = getattr(room, name)
            within = vars(thing).items() if inspect.ismodule(thing) else [(name, thing)]
            for _, one in within:
                own = getattr(one, "__module__", "") or ""
                for function in of_class(one) if inspect.isclass(one) and own.startswith("dlcore.") else [one]:
                    named = inspect.isfunction(function) or hasattr(function, "__wrapped__")  # by jax.jit or a cache
                    public = named and not function.__name__.startswith("_")
                    if public and function.__module__.startswith("dlcore."):
                        found[f"{function.__module__}.{function.__qualname__}"] = function
    return sorted(found.items())


FUNCTIONS = functions()


def positional(function):
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(function).parameters.items()
    return [name for name, p in found if p.kind in kinds and name != "self"]


def test_there_are_many():
    names = {name for name, _ in FUNCTIONS}
    assert len(names) > 1000
    assert {"dlcore.visualize._features.feature_maps", "dlcore.train.session.OpenRun.sample"} <= names


@pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
def test_order(name, function):
    given = positional(function)
    if "key" in given:
        assert given[0] == "key", f"{name}{inspect.signature(function)}: a key comes first, or is a keyword"
    drawn = name.rsplit(".", 1)[1] in DRAWN and name not in AT_A_PROMPT
    if drawn and "key" in inspect.signature(function).parameters:
        assert given[0] == "key", f"{name}: what it gives is random, so the key comes first"
    places = [given.index(part) for part in ORDER if part in given]
    assert places == sorted(places), f"{name}{inspect.signature(function)}: the order is params, state, batch"
    together = [part for part in given if part in ORDER]
    at = given.index(together[0]) if together else 0
    assert given[at : at + len(together)] == together, f"{name}: {', '.join(together)} stand together"
