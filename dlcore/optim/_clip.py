"""Clipping of gradients as optax gradient transformations (lecture 10.1).

By value first where both are wanted, as `dlcore.optim.make_optimizer` does: then the norm is within its bound at the
end. The other way round one large entry shrinks all others before it is cut off.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dlcore.norms import global_norm
from dlcore.operands import equal_shapes, wide
from dlcore.setting import Number, number
from dlcore.tree import by_layer, path_of


def clip_by_value(largest: Number) -> optax.GradientTransformation:
    """Each entry to [−c, c]: changes the direction. Raises `ValueError` unless c > 0."""
    _positive("clip_by_value", largest)
    return _stateless(lambda grads, params: jax.tree.map(lambda g: jnp.clip(g, -largest, largest), grads))


def clip_by_global_norm(largest: Number) -> optax.GradientTransformation:
    """g ← g · min(1, c/‖g‖), the norm over all leaves: keeps the direction (Pascanu et al. 2013, algorithm 1).

    Raises `ValueError` unless c > 0.
    """
    _positive("clip_by_global_norm", largest)

    def clip(grads: Any, params: Any) -> Any:
        factor = shrink(global_norm(grads), largest)
        return jax.tree.map(lambda g: (g * factor).astype(g.dtype), grads)

    return _stateless(clip)


def clip_adaptively(largest: Number, floor: Number = 1e-3) -> optax.GradientTransformation:
    """Each unit's gradient to at most c times the norm of its own weights (Brock et al. 2021, eq. 3).

    A unit is what feeds one output: for a kernel [..., in, out] everything but the last axis; a vector is one unit, and
    every copy in a branch `stacked` has its own, see `dlcore.tree`. Weights of norm below `floor` count as that long,
    so that zeros can move. Raises `ValueError` unless c > 0, or at an update without params or with other shapes.
    """
    _positive("clip_adaptively", largest)

    def clip(grads: Any, params: Any) -> Any:
        if params is None:
            raise ValueError("clip_adaptively compares with the params; call update(grads, state, params)")

        def layer(g: Array, w: Array) -> Array:
            equal_shapes("clip_adaptively", gradient=g, params=w)
            return (g * shrink(unit_norm(g), largest * jnp.maximum(unit_norm(w), floor))).astype(g.dtype)

        return jax.tree_util.tree_map_with_path(lambda path, g, w: by_layer(layer, path_of(path))(g, w), grads, params)

    return _stateless(clip)


def unit_norm(w: Float[Array, "*s"]) -> Float[Array, "*t"]:
    """Norm per output unit, wide, with the axes kept: over all axes but the last, or all of a vector."""
    axes = tuple(range(w.ndim - 1)) if w.ndim > 1 else None
    return jnp.sqrt(jnp.sum(jnp.square(wide(w)), axis=axes, keepdims=True))


def shrink(norm: Any, largest: Any) -> Any:
    """min(1, largest/norm), 1 where the norm is 0; NaN stays NaN."""
    return jnp.where(norm <= largest, 1.0, largest / jnp.where(norm <= largest, 1.0, norm))


def _stateless(function: Any) -> optax.GradientTransformation:
    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return function(grads, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _positive(name: str, largest: Number) -> None:
    number(largest, f"{name}: the threshold", "(0, ∞]")
