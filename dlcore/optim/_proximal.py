"""Proximal steps: penalties with a kink, minimised to zeros that are exact (lecture 10.13–10.14).

After a gradient step on the loss, prox_{ηαΩ}(v) = argmin_w ½‖w − v‖² + ηα Ω(w) solves for the penalty. With plain
gradient descent that is ISTA (Beck & Teboulle 2009).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dlcore.operands import wide
from dlcore.setting import Number, number
from dlcore.tree import by_layer, path_of
from dlcore.types import Params

Prox = Callable[[Array, Any], Array]
"""`(v, strength) -> argmin_w ½‖w − v‖² + strength · Ω(w)` of one leaf, or one copy of what is `stacked`."""


def soft_threshold(v: Float[Array, "*s"], strength: Any) -> Float[Array, "*s"]:
    """The proximal operator of ‖w‖₁: sign(v) · max(|v| − strength, 0).

    Raises `ValueError` for a strength that is neither one number nor one for every weight.
    """
    if jnp.shape(strength) not in ((), v.shape):
        raise ValueError(f"soft_threshold: strength has shape {jnp.shape(strength)}, the weights {v.shape}")
    return jnp.sign(v) * jnp.maximum(jnp.abs(v) - strength, 0)


def group_threshold(v: Float[Array, "*s n"], strength: Any) -> Float[Array, "*s n"]:
    """That of Σ_g √|g| ‖w_g‖₂, a group being the weights into one output: v_g · max(1 − strength √|g| / ‖v_g‖, 0).

    Raises `ValueError` for a strength that is neither one number nor one for every group.
    """
    if jnp.shape(strength) not in ((), v.shape[-1:]):
        raise ValueError(f"group_threshold: strength has shape {jnp.shape(strength)}, for groups {v.shape[-1:]}")
    squares = jnp.square(wide(v)).sum(tuple(range(v.ndim - 1)), keepdims=True)
    norms = jnp.sqrt(jnp.where(squares > 0, squares, 1))
    return (v * jnp.maximum(1 - strength * jnp.sqrt(v.size / v.shape[-1]) / norms, 0)).astype(v.dtype)


def proximal(
    tx: optax.GradientTransformation,
    rate: Number | Callable[[Any], Any],
    alpha: Number,
    mask: Callable[[Params], Any],
    prox: Prox = soft_threshold,
) -> optax.GradientTransformation:
    """`tx`, and then the proximal operator with strength η α on the leaves that `mask` marks.

    w ← prox_{ηα}(w + u) with u the update of `tx` and η = `rate`, a number or a schedule of the step. With
    `optax.sgd(rate)` that minimises L(w) + α Ω(w); behind Adam the effective α is scaled as its steps are. Raises
    `ValueError` for a negative α, and, at the update, without params.
    """
    number(alpha, "proximal: alpha", "[0, ∞)")

    inner_tx = optax.with_extra_args_support(tx)

    def init(params: Params) -> Any:
        return tx.init(params), jnp.zeros((), jnp.int32)

    def update(updates: Any, state: Any, params: Params | None = None, **offered: Any) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("proximal: pass params to update")
        inner, step = state
        updates, inner = inner_tx.update(updates, inner, params, **offered)
        strength = alpha * (rate(step) if callable(rate) else rate)

        def move(path: Any, chosen: bool, w: Array, u: Array) -> Array:
            layer = by_layer(lambda v: prox(v, jnp.asarray(strength, v.dtype)), path_of(path))
            return layer(w + u) - w if chosen else u

        return jax.tree_util.tree_map_with_path(move, mask(params), params, updates), (inner, step + 1)

    return optax.GradientTransformationExtraArgs(init, update)
