"""Magnitude pruning: masks that keep the largest weights, and a count of zeros (lecture 10.13–10.14)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlcore.setting import number
from dlcore.tree import named_leaves, stack_axes
from dlcore.types import Params

Chosen = Callable[[str], bool]
"""Whether the leaf at a path may be pruned."""


def magnitude_masks(params: Params, sparsity: float, chosen: Chosen, *, globally: bool = True) -> Params:
    """Masks, bool like params, that drop the smallest |w|: the given fraction of all chosen weights, or of every layer.

    A layer is a leaf, or one copy of what is `stacked`, see `dlcore.tree`. Among equals the first are kept. Leaves that
    are not chosen are kept whole. Raises `ValueError` unless 0 ≤ sparsity ≤ 1, or when no leaf is chosen.
    """
    number(sparsity, "magnitude_masks: sparsity", "[0, 1]")
    leaves = dict(named_leaves(params))
    sizes = {path: np.abs(np.asarray(leaf)) for path, leaf in leaves.items() if chosen(path)}
    if not sizes:
        raise ValueError("magnitude_masks: no leaf is chosen")
    if globally:
        keep = _largest(np.concatenate([size.ravel() for size in sizes.values()]), sparsity)
        parts = np.split(keep, np.cumsum([size.size for size in sizes.values()])[:-1])
    else:
        layers = [size.reshape(*size.shape[: stack_axes(path)], -1) for path, size in sizes.items()]
        parts = [np.apply_along_axis(_largest, -1, layer, sparsity) for layer in layers]
    kept = {path: part.reshape(size.shape) for (path, size), part in zip(sizes.items(), parts, strict=True)}
    masks = [jnp.asarray(kept.get(path, np.ones(leaf.shape, bool))) for path, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(params), masks)


def _largest(values: np.ndarray, sparsity: float) -> np.ndarray:
    """Whether each of the values [n] is among the largest, of which 1 − sparsity are kept."""
    keep = np.zeros(values.size, bool)
    keep[np.argsort(-values, kind="stable")[: values.size - round(sparsity * values.size)]] = True
    return keep


def apply_masks(params: Params, masks: Params) -> Params:
    """The params with exact zeros where a mask is false. Raises `ValueError` for masks of other shapes."""

    def masked(w: jax.Array, keep: jax.Array) -> jax.Array:
        if jnp.shape(w) != jnp.shape(keep):
            raise ValueError(f"apply_masks: a mask of shape {jnp.shape(keep)} for a leaf of shape {jnp.shape(w)}")
        return jnp.where(keep, w, 0)

    return jax.tree.map(masked, params, masks)


def keep_pruned(tx: optax.GradientTransformation, masks: Params) -> optax.GradientTransformation:
    """`tx` whose updates and gradients are 0 at pruned weights: they stay what they are."""

    inner = optax.with_extra_args_support(tx)

    def update(updates: Any, state: Any, params: Params | None = None, **offered: Any) -> tuple[Any, Any]:
        updates, state = inner.update(apply_masks(updates, masks), state, params, **offered)
        return apply_masks(updates, masks), state

    return optax.GradientTransformationExtraArgs(tx.init, update)


class Sparsity(NamedTuple):
    """Zeros of one leaf, or of all."""

    zeros: int
    size: int

    @property
    def fraction(self) -> float:
        """Zeros among all."""
        return self.zeros / self.size


def sparsity(params: Params) -> dict[str, Sparsity]:
    """Exact zeros by path, and of all leaves together at the path ""."""
    found = {path: Sparsity(int((np.asarray(leaf) == 0).sum()), leaf.size) for path, leaf in named_leaves(params)}
    return found | {"": Sparsity(sum(s.zeros for s in found.values()), sum(s.size for s in found.values()))}
