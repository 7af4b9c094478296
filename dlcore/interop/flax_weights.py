"""Weights of Linen modules read into params and state, and given back (lecture 18).

    params, state = jax.eval_shape(model.init, key, images)
    params, state = from_flax(variables, flax_names.resnet, params, state)

Kernels are laid out alike in both; batch norm keeps its running variance as `variance` here and as `var` there.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlcore.interop._flax_names import Names
from dlcore.interop._modules import Modules, check, fill, modules
from dlcore.nn import restack, unstack
from dlcore.tensor_files import cast
from dlcore.types import Params, State

LEAVES = {
    "kernel": ("params", "kernel"),
    "bias": ("params", "bias"),
    "scale": ("params", "scale"),
    "mean": ("batch_stats", "mean"),
    "variance": ("batch_stats", "var"),
}
"""dlcore's names of leaves, and Linen's collections and names."""


def from_flax(variables: Mapping[str, Any], names: Names, params: Params, state: State) -> tuple[Params, State]:
    """Linen's `variables` as params and state with the structure, shapes and dtypes of those given.

    `variables` holds the collections `params` and `batch_stats`, of arrays. Only the shapes and dtypes of `params` and
    `state` are used; `jax.eval_shape` of a model's init gives them. Raises one `ValueError` with all missing, extra and
    mis-shaped names, and for values beyond the range of the dtype given.
    """
    template = modules(unstack(params), unstack(state))
    places = _places(template, names)
    tensors = {f"{path}/{leaf}": np.asarray(x) for path, m in modules(variables).items() for leaf, x in m.items()}
    check(tensors, {places[path][leaf]: tuple(x.shape) for path, m in template.items() for leaf, x in m.items()})
    values = {
        path: {leaf: cast(places[path][leaf], tensors[places[path][leaf]], x.dtype) for leaf, x in module.items()}
        for path, module in template.items()
    }
    return tuple(restack(fill(unstack(tree), values), tree) for tree in (params, state))


def to_flax(names: Names, params: Params, state: State) -> dict[str, Any]:
    """Params and state as Linen's variables: the inverse of `from_flax`."""
    found = modules(unstack(params), unstack(state))
    places = _places(found, names)
    variables: dict[str, Any] = {}
    for path, module in found.items():
        for leaf, x in module.items():
            *above, last = places[path][leaf].split("/")
            branch = variables
            for part in above:
                branch = branch.setdefault(part, {})
            branch[last] = x
    return variables


def _places(found: Modules, names: Names) -> dict[str, dict[str, str]]:
    """Where the leaves of each module are in Linen's variables: `batch_stats/bn_init/var`."""
    named = names(found.keys())

    def place(path: str, leaf: str) -> str:
        if leaf not in LEAVES:
            raise ValueError(f"Flax's {named[path]} has no place for {leaf!r}; those known are {', '.join(LEAVES)}")
        collection, name = LEAVES[leaf]
        return f"{collection}/{named[path]}/{name}"

    return {path: {leaf: place(path, leaf) for leaf in module} for path, module in found.items()}
