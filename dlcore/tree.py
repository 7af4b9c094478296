"""What the path of a leaf says: whether it is a weight, and how many of its axes count copies of a layer.

Params and state are nested dicts, a leaf's path its keys joined by "/". Copies of one layer that are computed together
(`dlcore.nn.combine.scan`, `dlcore.train.ensemble.ensemble`) lie on a leading axis of every leaf, in the branch
`stacked`. The shape alone does not tell: [3, 5, 4] is three dense kernels there, and one convolution's elsewhere.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax

STACKED = "stacked"
"""Name of the branch whose leaves hold one entry per copy on their first axis; no part may have it."""

SPARED = ("bias", "scale", "gamma", "log_scale")
"""Leaves that shift or scale single units: biases, normalisations, layer scales, the diagonal of a flow's matrix."""

BOX = jax.tree_util.GetAttrKey("value")
"""The step from a box to what is in it, behind a name."""


def path_of(path: Any) -> str:
    """A key path of JAX joined by "/"; a box around an array (Flax's `Partitioned`, `Variable`) has no name in it."""
    boxed = [step == BOX and isinstance(before, jax.tree_util.DictKey) for before, step in pairwise((None, *path))]
    steps = tuple(step for step, box in zip(path, boxed, strict=True) if not box)
    return jax.tree_util.keystr(steps, simple=True, separator="/")


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf with its path, in a fixed order."""
    return [(path_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def is_weight(path: str) -> bool:
    """Whether the leaf at this path is penalised and decayed by default: all but those in `SPARED`.

    An embedding is a weight, the kernel of a dense layer whose inputs are one-hot; a bias per position is none.
    """
    return path.rsplit("/", 1)[-1] not in SPARED


def stacked(tree: Any) -> dict[str, Any]:
    """The branch of params or state whose leaves hold copies on their first axis; empty for a tree without leaves."""
    return {STACKED: tree} if jax.tree.leaves(tree) else {}


def unstacked(tree: Any) -> Any:
    """What `stacked` was given."""
    return tree.get(STACKED, {})


def stack_axes(path: str) -> int:
    """How many leading axes of the leaf at this path count copies: one for each branch `stacked` above it."""
    return path.split("/").count(STACKED)


def by_layer(function: Callable[..., Any], path: str) -> Callable[..., Any]:
    """`function`, which takes leaves of one layer, for those at this path: mapped over the axes that count copies."""
    for _ in range(stack_axes(path)):
        function = jax.vmap(function)
    return function
