"""What the path of a leaf says: whether it is a weight, and how many of its axes count copies of a layer.

Params and state are nested dicts, a leaf's path its keys joined by "/". Copies of one layer that are computed together
(`dlcore.nn.scan`, `dlcore.train.ensemble`) lie on a leading axis of every leaf, in the branch
`stacked`. The shape alone does not tell: [3, 5, 4] is three dense kernels there, and one convolution's elsewhere.

Sets of leaves are named by patterns of paths: `*` stands for anything inside a name (`?` for one character), `**` for
any names, a tuple for the union, and a leading `!` takes away from what stands before it (from everything, at the
beginning).
"""

import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import jax

from dlcore.lookup import choices

Pattern: TypeAlias = str | tuple[str, ...]
"""`"encoder/**"`, `"**/bias"`, `("**", "!head/**")`."""

STACKED = "stacked"
"""Name of the branch whose leaves hold one entry per copy on their first axis; no part may have it."""

SPARED = ("bias", "scale", "gamma", "log_scale")
"""Leaves that shift or scale single units: biases, normalisations, layer scales, the diagonal of a flow's matrix."""

BOX = jax.tree_util.GetAttrKey("value")
"""The step from a box to what is in it, behind a name."""


def path_of(path: Any) -> str:
    """A key path of JAX joined by "/"; a box around an array (Flax's `Partitioned`, `Variable`) has no name in it.

    Behind an attribute, as in an NNX module, only the last step may be a box: attention has a part called `value`.
    """
    dicts, names = jax.tree_util.DictKey, (jax.tree_util.DictKey, jax.tree_util.GetAttrKey)
    boxed = [step == BOX and isinstance(before, dicts) for before, step in pairwise((None, *path))]
    if len(path) > 1 and path[-1] == BOX:
        boxed[-1] = isinstance(path[-2], names)
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


def matching(pattern: Pattern, paths: Collection[str], *, strict: bool = True) -> set[str]:
    """The paths that the pattern names; if `strict`, a part that names none is a `ValueError` with the nearest path.

    >>> sorted(matching(("**", "!**/bias"), ["dense_0/bias", "dense_0/kernel", "head/kernel"]))
    ['dense_0/kernel', 'head/kernel']
    """
    parts = (pattern,) if isinstance(pattern, str) else tuple(pattern)
    if not parts:
        raise ValueError("a pattern of paths is empty; '**' names every leaf")
    chosen = set(paths) if parts[0].startswith("!") else set()
    for part in parts:
        named = {path for path in paths if _expression(part.removeprefix("!")).fullmatch(path)}
        if strict and not named:
            raise ValueError(f"pattern {part!r} fits no path; {choices(part, sorted(paths))}")
        chosen = chosen - named if part.startswith("!") else chosen | named
    return chosen


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    names = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*/|/\*\*$|\*\*|\*|\?)", pattern)
    ends = {"**/": "(?:.*/)?", "/**": "(?:/.*)?"}
    return re.compile("".join((ends | names).get(token, re.escape(token)) for token in tokens))


def partition(
    tree: Mapping[str, Any], pattern: Pattern, *, strict: bool = True
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The leaves of a nested dict that the pattern names, and the others, each as a nested dict without empty branches.

    Whatever is no dict counts as one leaf. `merge` puts them together again. Raises `ValueError` as `matching` does.

    >>> params = {"head": {"kernel": 1, "bias": 2}, "scale": 3}
    >>> partition(params, "**/bias")
    ({'head': {'bias': 2}}, {'head': {'kernel': 1}, 'scale': 3})
    >>> merge(*partition(params, "**/bias")) == params
    True
    """
    if pattern == "**":
        return tree, {}
    chosen = matching(pattern, list(_paths(tree)), strict=strict)
    return _kept(tree, chosen.__contains__), _kept(tree, lambda path: path not in chosen)


def _paths(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, node in tree.items():
        yield from _paths(node, f"{above}{name}/") if isinstance(node, Mapping) else (f"{above}{name}",)


def _kept(tree: Mapping[str, Any], keep: Callable[[str], bool], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, node in tree.items():
        branch = isinstance(node, Mapping)
        kept = _kept(node, keep, f"{above}{name}/") if branch else node
        if kept if branch else keep(f"{above}{name}"):
            found[name] = kept
    return found


def merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """The nested dict with the leaves of both. Raises `ValueError` for a leaf that both have."""
    if not one or not other:
        return one or other
    both = {**one, **other}
    for name in one.keys() & other.keys():
        if not isinstance(one[name], Mapping) or not isinstance(other[name], Mapping):
            raise ValueError(f"merge: both trees have a leaf at {name!r}")
        both[name] = merge(one[name], other[name])
    return both


def fitted(tree: Any, leaves: Any) -> Any:
    """`tree` with those leaves of another one that have a path in it: its structure, boxes included, stays."""
    values = dict(named_leaves(leaves))
    return jax.tree_util.tree_map_with_path(lambda path, old: values.get(path_of(path), old), tree)
