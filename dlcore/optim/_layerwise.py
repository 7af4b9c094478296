"""Rates and freezing by groups of layers, for networks that were trained before (lecture 18)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from dlcore.setting import number
from dlcore.tree import Pattern, matching, named_leaves, path_of


def group_labels(params: Any, groups: Sequence[Pattern]) -> Any:
    """The number of the group that every leaf belongs to, in a tree like `params`.

    Groups are patterns of paths, see `dlcore.tree.matching`, from the input to the head. Raises `ValueError` for no
    groups, a leaf that none names or two name, and a pattern that names no leaf.
    """
    if not groups:
        raise ValueError("groups of layers are empty; name at least one pattern of paths, such as '**'")
    paths = [path for path, _ in named_leaves(params)]
    found: dict[str, int] = {}
    for position, pattern in enumerate(groups):
        for path in matching(pattern, paths):
            if path in found:
                raise ValueError(f"{path} belongs to groups {found[path]} and {position}; make their patterns disjoint")
            found[path] = position
    if lacking := [path for path in paths if path not in found]:
        raise ValueError(f"{len(lacking)} leaves are in no group, the first: {lacking[0]}; add a pattern that names it")
    return jax.tree_util.tree_map_with_path(lambda path, _: found[path_of(path)], params)


def layer_decay(
    tx: optax.GradientTransformation, groups: Sequence[Pattern], decay: float
) -> optax.GradientTransformation:
    """The optimiser `tx` with the steps of group g of G multiplied by decay^(G − 1 − g): the head takes whole steps.

    What `tx` adds, decoupled weight decay among it, is scaled alike, as by a learning rate per layer (Howard & Ruder
    2018; Clark et al. 2020). Raises `ValueError` unless decay > 0, and at `init` for groups as `group_labels` does.

    >>> params = {"stem": jnp.ones(1), "head": jnp.ones(1)}
    >>> tx = layer_decay(optax.sgd(1.0), ("stem", "head"), 0.5)
    >>> print(tx.update(params, tx.init(params), params)[0]["stem"])
    [-0.5]
    """
    number(decay, "layer_decay: decay (to keep layers as they are, use only=)", "(0, ∞)")

    def scale(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        labels = group_labels(updates, groups)
        return jax.tree.map(lambda u, g: u * decay ** (len(groups) - 1 - g), updates, labels), state

    def init(params: Any) -> optax.EmptyState:
        group_labels(params, groups)
        return optax.EmptyState()

    return optax.chain(tx, optax.GradientTransformation(init, scale))


class Waiting(NamedTuple):
    """How many steps have passed, and the optimiser's own state, which starts when its wait is over."""

    step: Int[Array, ""]
    inner: Any


def unfreezing(
    tx: optax.GradientTransformation, groups: Sequence[Pattern], starts: Sequence[int]
) -> optax.GradientTransformation:
    """Gradual unfreezing: group g trains from step `starts[g]` on, and stays the same to the bit before.

    Each group has an optimiser `tx` of its own, whose moments and schedule begin with its first step (Howard & Ruder
    2018), so that a clip by the norm sees one group at a time. Raises `ValueError` for starts that are not one per
    group or negative, and at `init` for groups as `group_labels` does.
    """
    if len(starts) != len(groups) or min(starts, default=0) < 0:
        raise ValueError(f"unfreezing: one start of at least 0 per group, got {list(starts)} for {len(groups)} groups")
    transforms = {number: _after(tx, start) for number, start in enumerate(starts)}
    return optax.transforms.partition(transforms, lambda params: group_labels(params, groups))


def _after(tx: optax.GradientTransformation, start: int) -> optax.GradientTransformation:
    def init(params: Any) -> Waiting:
        return Waiting(jnp.zeros((), jnp.int32), tx.init(params))

    def update(grads: Any, state: Waiting, params: Any = None) -> tuple[Any, Waiting]:
        updates, inner = tx.update(grads, state.inner, params)
        begun = state.step >= start
        # θ + (−0) = θ to the bit, also where θ is −0.
        updates = jax.tree.map(lambda u: jnp.where(begun, u, jnp.full_like(u, -0.0)), updates)
        kept = jax.tree.map(lambda new, old: jnp.where(begun, new, old), inner, state.inner)
        return updates, Waiting(optax.safe_increment(state.step), kept)

    return optax.GradientTransformation(init, update)
