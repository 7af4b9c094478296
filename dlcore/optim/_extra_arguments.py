"""What optax transformations are told beside the gradient: the value, the function, whatever their update asks for."""

import re
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dlcore.tree import named_leaves

Transformation: TypeAlias = optax.GradientTransformation | optax.MultiSteps
"""What optax calls an optimiser: `init(params)` and `update(grads, memory, params)`."""


def transform(
    tx: Transformation,
    grads: Any,
    memory: Any,
    params: Any,
    *,
    value: Float[Array, ""],
    value_fn: Callable[[Any], Float[Array, ""]],
    grad_fn: Callable[[Any], Any],
) -> tuple[Any, Any]:
    """`tx.update(grads, memory, params)`, told of f as well if it asks: (updates, memory).

    `value` is f(params), `value_fn` is f and `grad_fn` is ∇f, functions of the params alone. Optimisers name what they
    need differently, and have it by all of these names: `value` (`optax.polyak_sgd`), `grad` and `value_fn`
    (`optax.lbfgs`), `grad_fn` (an opaque `optax.contrib.sam`), `obj_fn` (`optax.contrib.sophia`). Raises `ValueError`
    for one that needs more, and for updates that do not fit the params.
    """

    # Line searches refuse arguments that their function does not take.
    def value_of(at: Any, grad_fn: Any = None, obj_fn: Any = None) -> Float[Array, ""]:
        return value_fn(at)

    offered = {"value": value, "grad": grads, "value_fn": value_of, "obj_fn": value_of}
    offered["grad_fn"] = lambda at, *_: grad_fn(at)
    _check_pair(memory, params)
    taken = dict(offered)
    while True:
        try:
            updates, memory = tx.update(grads, memory, params, **taken)
            break
        except TypeError as error:
            # A signature says nothing about what an optimiser hands on to those inside it: they refuse by name.
            refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if refused is None or refused[1] not in taken:
                raise ValueError(f"the optimiser's update failed ({error}); {_advice(str(error), offered)}") from error
            taken.pop(refused[1])
        except ValueError as error:
            if "pytree" not in str(error):
                raise
            raise ValueError(
                f"the optimiser puts trees of different structures together ({str(error).splitlines()[0]}), as a line "
                f"search, which evaluates the loss, does inside optax.partition or masked: give it its part of the "
                f"params with only= of a gradient_update of its own"
            ) from error
    _check_fit(updates, params)
    return updates, memory


def _advice(error: str, offered: Collection[str]) -> str:
    kept = [name for name in offered if f"'{name}'" in error]
    if kept:
        return (
            f"{', '.join(kept)} is given to the outermost transformation, and one around that which asks, such as "
            f"optax.lookahead, does not hand it on; put that which asks outside, or do without the other"
        )
    return f"it is given grads, state, params, {', '.join(offered)}. Give it what it needs in an update of your own"


def _check_pair(memory: Any, params: Any) -> None:
    """`optax.lookahead` moves a pair of params; started with plain ones it fails only at its first update."""
    looks_ahead = lambda node: isinstance(node, optax.LookaheadState)  # noqa: E731
    if any(map(looks_ahead, jax.tree.leaves(memory, is_leaf=looks_ahead))) != isinstance(params, optax.LookaheadParams):
        raise ValueError(
            f"optax.lookahead and optax.LookaheadParams go together, got params of type {type(params).__name__}; pass "
            f"lookahead=True to gradient_update for optax.lookahead, and for no other"
        )


def _check_fit(updates: Any, params: Any) -> None:
    if jax.tree.structure(updates) != jax.tree.structure(params):
        raise ValueError(
            f"the optimiser's updates have the structure {jax.tree.structure(updates)} and the params "
            f"{jax.tree.structure(params)}; use a transformation that keeps the structure of the gradient"
        )
    for (path, update), param in zip(named_leaves(updates), jax.tree.leaves(params), strict=True):
        if jnp.shape(update) != jnp.shape(param):
            raise ValueError(
                f"the optimiser's update at {path!r} has shape {jnp.shape(update)}, the params {jnp.shape(param)}; one "
                f"that wants a gradient per example, such as optax.contrib.dpsgd, needs an update of your own with "
                f"jax.vmap(jax.grad(...))"
            )
