"""Params and state as modules by path, which weights of other libraries are read into (lecture 18)."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

Modules = dict[str, dict[str, Any]]


def modules(*trees: Mapping[str, Any]) -> Modules:
    """Leaves by the path of their module and their own name."""
    found: Modules = {}

    def walk(tree: Mapping[str, Any], path: str) -> None:
        for name, branch in tree.items():
            if isinstance(branch, Mapping):
                walk(branch, f"{path}/{name}" if path else name)
            else:
                found.setdefault(path, {})[name] = branch

    for tree in trees:
        walk(tree, "")
    return found


def fill(tree: Mapping[str, Any], values: Modules, path: str = "") -> dict[str, Any]:
    """The tree with the leaves of `values`, by module and name."""
    below = {name: f"{path}/{name}" if path else name for name in tree}
    return {
        name: fill(branch, values, below[name]) if isinstance(branch, Mapping) else values[path][name]
        for name, branch in tree.items()
    }


def check(tensors: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise one `ValueError` with all missing, extra and mis-shaped names, and those whose tensors are not floats."""
    extra = sorted(tensors.keys() - expected.keys())
    known = sorted(tensors.keys() & expected.keys())
    shapes = [n for n in known if tuple(tensors[n].shape) != expected[n]]
    others = [n for n in known if not jnp.issubdtype(tensors[n].dtype, jnp.floating)]
    problems = [f"missing: {', '.join(missing)}"] if (missing := sorted(expected.keys() - tensors.keys())) else []
    problems += [f"extra: {', '.join(extra)}"] if extra else []
    problems += [f"shape of {n}: {tuple(tensors[n].shape)}, expected {expected[n]}" for n in shapes]
    problems += [
        f"dtype of {n}: {tensors[n].dtype}, expected a float type; store the weights as floats" for n in others
    ]
    if problems:
        raise ValueError("these weights are not this network's\n" + "\n".join(problems))
