"""Optimisers that look at leaves, on the layers of a stack one by one (lecture 7)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dlcore.tree import STACKED, named_leaves, stack_axes

FUNCTIONS = ("value_fn", "obj_fn", "grad_fn")
"""Arguments of an update that are functions of the params."""


def copy_by_copy(tx: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`tx` as if the copies in a branch `stacked` were layers of their own, see `dlcore.tree`.

    For an optimiser that asks for the norm of a leaf, or for its rows and columns: `optax.lamb`, `optax.lars`,
    `optax.adafactor`. A scanned network then takes the steps of the same network without `scan`. What `tx` remembers
    has the copies apart; trees without such a branch pass as they are.
    """
    inner = optax.with_extra_args_support(tx)

    def init(params: Any) -> Any:
        return inner.init(apart(params))

    def update(grads: Any, state: Any, params: Any = None, **offered: Any) -> tuple[Any, Any]:
        if not any(stack_axes(path) for path, _ in named_leaves(grads)):
            return inner.update(grads, state, params, **offered)
        known = None if params is None else apart(params)
        given = {name: _given(name, value, grads) for name, value in offered.items()}
        updates, state = inner.update(apart(grads), state, known, **given)
        return together(updates, grads), state

    return optax.GradientTransformationExtraArgs(init, update)


def _given(name: str, value: Any, like: Any) -> Any:
    """An argument of the update for params whose copies are apart."""
    if name not in FUNCTIONS:
        return apart(value) if name == "grad" else value

    def function(at: Any, *others: Any, **options: Any) -> Any:
        found = value(together(at, like), *others, **options)
        return apart(found) if name == "grad_fn" else found

    return function


def apart(tree: Any) -> Any:
    """The tree with `copy_0`, `copy_1`, … in the place of each branch `stacked`."""
    if not isinstance(tree, Mapping):
        return tree
    found: dict[str, Any] = {}
    for name, branch in tree.items():
        if name != STACKED or not _count(branch):
            found[name] = branch if name == STACKED else apart(branch)
            continue
        copies = [apart(jax.tree.map(lambda leaf, i=i: leaf[i], branch)) for i in range(_count(branch))]
        found |= {f"copy_{i}": copy for i, copy in enumerate(copies)}
    return found


def together(tree: Any, like: Any) -> Any:
    """The inverse of `apart`: stacked where `like` is, whose values are not used."""
    if not isinstance(like, Mapping):
        return tree
    found: dict[str, Any] = {}
    for name, branch in like.items():
        if name != STACKED or not _count(branch):
            found[name] = branch if name == STACKED else together(tree[name], branch)
            continue
        one = jax.tree.map(lambda leaf: leaf[0], branch)
        copies = [together(tree[f"copy_{i}"], one) for i in range(_count(branch))]
        found[name] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *copies)
    return found


def _count(stack: Any) -> int:
    """How many copies; 0 where optax has masked all leaves."""
    return next((leaf.shape[0] for leaf in jax.tree.leaves(stack)), 0)
