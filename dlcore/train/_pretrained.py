"""Weights of one network in the place of those that another starts with (lecture 18)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dlcore.tensor_files import cast, load
from dlcore.train._system import Fit
from dlcore.tree import Pattern, matching, named_leaves, path_of
from dlcore.types import Batch, Key, Params, State

BRANCHES = ("params", "state")


def pretrained(path: str | Path) -> dict[str, dict[str, Any]]:
    """The nested `params` and `state` in a `.safetensors` file whose tensors are called `params/PATH` and `state/PATH`.

    Raises `ValueError`, naming the file, for one that cannot be read or whose tensors have other names.
    """
    tensors = load(path)
    tree: dict[str, dict[str, Any]] = {name: {} for name in BRANCHES}
    if other := sorted(name for name in tensors if name.partition("/")[0] not in BRANCHES or "/" not in name):
        raise ValueError(
            f"{path} has a tensor {other[0]!r} ({len(other)} of {len(tensors)}); they must be called params/PATH or "
            "state/PATH, as launch.export writes them. Weights of PyTorch go through dlcore.interop.torch_weights"
        )
    for name, leaf in tensors.items():
        *branches, last = name.split("/")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        node[last] = leaf
    return tree


def starting_from(stage: Fit, tree: Mapping[str, Any], fresh: Pattern = ()) -> Fit:
    """The fit, whose `init` gives the weights of `tree` (`pretrained`) but for the leaves that `fresh` names.

    Raises `ValueError` when it is traced, for all leaves of which names or shapes differ, and for weights that are no
    floats or beyond the range of the dtype.
    """

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        own = dict(zip(BRANCHES, stage.init(key, batch), strict=True))
        both = {name: swapped(tree[name], own[name], fresh) for name in BRANCHES}
        like = {k: dict(v) for k, v in own.items()}
        found = jax.tree_util.tree_map_with_path(lambda path, new, old: _like(path_of(path), new, old), both, like)
        return found["params"], found["state"]

    return stage._replace(init=init)


def _like(path: str, new: Any, old: Any) -> Any:
    """The leaf in the dtype of another; what is traced is a leaf of that one's own."""
    return new if isinstance(new, jax.core.Tracer) else cast(path, new, old.dtype)


def swapped(trained: Mapping[str, Any], fresh: Mapping[str, Any], head: Pattern) -> dict[str, Any]:
    """A tree like `fresh` whose leaves come from `trained`, but for those that `head` names, which stay fresh.

    For params, and for the state of the same network; `head` need name none, and () names none. Raises one `ValueError`
    for all leaves that the trained network lacks, has beyond the head, or has in another shape.

    >>> swapped({"body": jnp.ones(2), "head": jnp.ones(3)}, {"body": jnp.zeros(2), "head": jnp.zeros(5)}, "head")
    {'body': Array([1., 1.], dtype=float32), 'head': Array([0., 0., 0., 0., 0.], dtype=float32)}
    """
    old, new = (dict(named_leaves(dict(tree))) for tree in (trained, fresh))
    own = matching(head, [*new, *(path for path in old if path not in new)], strict=False) if head else set()
    wrong = [f"{path} is missing" for path in new if path not in own and path not in old]
    wrong += [f"{path} is left over" for path in old if path not in own and path not in new]
    wrong += [
        f"{path} is {list(jnp.shape(old[path]))}, wanted {list(jnp.shape(new[path]))}"
        for path in new
        if path not in own and path in old and jnp.shape(old[path]) != jnp.shape(new[path])
    ]
    if wrong:
        raise ValueError(
            f"the trained network does not fit in {len(wrong)} leaves: {'; '.join(wrong[:5])}; build the model that "
            f"was trained, or let head={head!r} name what differs"
        )
    return _filled(fresh, {path: new[path] if path in own else old[path] for path in new})


def _filled(tree: Mapping[str, Any], leaves: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    return {
        name: _filled(node, leaves, f"{above}{name}/") if isinstance(node, Mapping) else leaves[f"{above}{name}"]
        for name, node in tree.items()
    }
