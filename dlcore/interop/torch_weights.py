"""Weights of PyTorch's definitions in `.safetensors` files, read into params and state, and written back (lecture 18).

    params, state = jax.eval_shape(model.init, key, images)
    params, state = read("resnet50.safetensors", names_of("resnet50"), params, state)

PyTorch itself is not needed. Convolution kernels [*window, i, o] are stored as [o, i, *window] there, dense ones
[i, o] as [o, i], and the inputs of a dense layer behind an image as (c, h, w) rather than (h, w, c). GoogLeNet's
published weights want rescaled images: `googlenet_inputs`.
"""

import os
import re
from collections.abc import Mapping

import numpy as np
from safetensors.numpy import save_file

from dlcore.interop._modules import Modules, check, fill, modules
from dlcore.interop._torch_names import Names, Place
from dlcore.nn import restack, unstack
from dlcore.tensor_files import cast, load
from dlcore.types import Params, State

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "variance": "running_var",
    "gamma": "layer_scale",
}
"""dlcore's names of leaves, and PyTorch's."""

COUNTER = "num_batches_tracked"
"""A buffer of PyTorch's batch norm, unused with a constant momentum: written as 0, not read."""


def read(
    path: str | os.PathLike, names: Names, params: Params, state: State, *, ignore: str = ""
) -> tuple[Params, State]:
    """Params and state from a `.safetensors` file: `from_torch` of what it holds.

    Raises `ValueError`, naming the file, for one that is missing, damaged, of another kind or of another network.
    """
    tensors = load(path)
    try:
        return from_torch(tensors, names, params, state, ignore=ignore)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def write(path: str | os.PathLike, names: Names, params: Params, state: State) -> None:
    """A `.safetensors` file that PyTorch's definition loads: `to_torch` of params and state."""
    save_file(to_torch(names, params, state), path)


def from_torch(
    tensors: Mapping[str, np.ndarray], names: Names, params: Params, state: State, *, ignore: str = ""
) -> tuple[Params, State]:
    """PyTorch's tensors by name as params and state with the structure, shapes and dtypes of those given.

    Only the shapes and dtypes of `params` and `state` are used; `jax.eval_shape` of a model's init gives them. `ignore`
    is a regular expression of names that may be left over, such as "aux" for those of a GoogLeNet's auxiliary heads.
    Raises one `ValueError` with all missing, extra and mis-shaped names, and those whose tensors are not of a float
    type, such as integers of quantised weights; and for values beyond the range of the dtype given.
    """
    template = modules(unstack(params), unstack(state))
    places = names(template.keys())
    expected = _expected(template, places)
    check({name: x for name, x in tensors.items() if name in expected or not _spare(name, ignore)}, expected)
    values = {
        path: {
            leaf: cast(
                _name(places[path], leaf),
                _from(tensors[_name(places[path], leaf)], leaf, _channels(template, places[path])),
                x.dtype,
            )
            for leaf, x in module.items()
        }
        for path, module in template.items()
    }
    return tuple(restack(fill(unstack(tree), values), tree) for tree in (params, state))


def to_torch(names: Names, params: Params, state: State) -> dict[str, np.ndarray]:
    """Params and state as PyTorch's tensors by name: the inverse of `from_torch`."""
    found = modules(unstack(params), unstack(state))
    places = names(found.keys())
    tensors: dict[str, np.ndarray] = {}
    for path, module in found.items():
        channels = _channels(found, places[path])
        for leaf, x in module.items():
            tensors[_name(places[path], leaf)] = np.ascontiguousarray(_to(np.asarray(x), leaf, channels))
        if "mean" in module:
            tensors[f"{places[path].module}.{COUNTER}"] = np.zeros((), np.int64)
    return tensors


def _spare(name: str, ignore: str) -> bool:
    return name.rsplit(".", 1)[-1] == COUNTER or bool(ignore and re.match(ignore, name))


def _name(place: Place, leaf: str) -> str:
    if leaf not in LEAVES:
        raise ValueError(f"PyTorch's {place.module} has no place for {leaf!r}; those known are {', '.join(LEAVES)}")
    return f"{place.module}.{LEAVES[leaf]}"


def _channels(modules: Modules, place: Place) -> int:
    return modules[place.flattened]["kernel"].shape[-1] if place.flattened else 0


def _expected(modules: Modules, places: Mapping[str, Place]) -> dict[str, tuple[int, ...]]:
    return {
        _name(places[p], leaf): _shape(x.shape, leaf) for p, module in modules.items() for leaf, x in module.items()
    }


def _shape(shape: tuple[int, ...], leaf: str) -> tuple[int, ...]:
    if leaf == "gamma":
        return (*shape, 1, 1)
    return (*shape[:-3:-1], *shape[:-2]) if leaf == "kernel" else tuple(shape)


def _to(x: np.ndarray, leaf: str, channels: int) -> np.ndarray:
    if leaf != "kernel":
        return x.reshape(_shape(x.shape, leaf))
    if channels:
        x = x.reshape(-1, channels, x.shape[-1]).swapaxes(0, 1).reshape(x.shape)
    return x.transpose(x.ndim - 1, x.ndim - 2, *range(x.ndim - 2))


def _from(x: np.ndarray, leaf: str, channels: int) -> np.ndarray:
    if leaf != "kernel":
        return x.reshape(x.shape[0] if leaf == "gamma" else x.shape)
    x = x.transpose(*range(2, x.ndim), 1, 0)
    return x.reshape(channels, -1, x.shape[-1]).swapaxes(0, 1).reshape(x.shape) if channels else x
