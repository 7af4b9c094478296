"""Penalties on weights (lecture 10.7–10.12): L̃ = L + α Ω(θ), never on biases or the scales of single units."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.operands import magnitude, wide
from dlcore.tree import by_layer, is_weight, named_leaves
from dlcore.types import Params


def _over(term: Callable[[Array], Array], params: Params, chosen: Callable[[str], bool]) -> Float[Array, ""]:
    """The sum of `term` over layers: a stack of them has one term per copy."""
    terms = (jnp.sum(by_layer(term, path)(leaf)) for path, leaf in named_leaves(params) if chosen(path))
    return sum(terms, jnp.float32(0))


def l2(params: Params, chosen: Callable[[str], bool] = is_weight) -> Float[Array, ""]:
    """½ Σ w² over the `chosen` paths; the negative log of a normal prior, up to a constant (lecture 10.15)."""
    return _over(lambda w: 0.5 * jnp.sum(jnp.square(wide(w, "l2"))), params, chosen)


def l1(params: Params, chosen: Callable[[str], bool] = is_weight) -> Float[Array, ""]:
    """Σ |w| over the `chosen` paths; the negative log of a Laplace prior, up to a constant. Gradient 0 at w = 0."""
    return _over(lambda w: jnp.sum(magnitude(wide(w, "l1"))), params, chosen)


def group_lasso(params: Params, chosen: Callable[[str], bool] = is_weight) -> Float[Array, ""]:
    """Σ_g √|g| ‖w_g‖₂, a group being the weights into one output (Yuan & Lin 2006); gradient 0 at a group of zeros.

    Outputs are the last axis, and every copy in a branch `stacked` has groups of its own, see `dlcore.tree`.
    """

    def term(w: Array) -> Array:
        w = jnp.atleast_1d(wide(w, "group_lasso"))
        squares = jnp.sum(jnp.square(w.reshape(-1, w.shape[-1])), axis=0)
        norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
        return jnp.sqrt(w.size / w.shape[-1]) * norms.sum()

    return _over(term, params, chosen)


def soft_sharing(params: Params, other: Params) -> Float[Array, ""]:
    """½ ‖θ_A − θ_B‖² over two trees of the same structure (lecture 11.3): their leaves are drawn to each other.

    Raises `ValueError` when the structures or shapes differ.
    """
    if jax.tree.structure(params) != jax.tree.structure(other):
        raise ValueError("soft_sharing: the two trees must have the same structure")
    shapes = jax.tree.map(lambda a, b: (a.shape, b.shape), params, other)
    if any(a.shape != b.shape for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True)):
        raise ValueError(f"soft_sharing: leaves must have the same shapes, got {shapes}")
    difference = lambda a, b: wide(a, "soft_sharing") - wide(b, "soft_sharing")  # noqa: E731
    terms = jax.tree.map(lambda a, b: 0.5 * jnp.sum(jnp.square(difference(a, b))), params, other)
    return sum(jax.tree.leaves(terms), jnp.float32(0))


def activity_l1(h: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """Σ_j |h_j| per example (lecture 10.13): a penalty on a representation, whose units it turns off. Gradient 0 at 0.

    In training: `supervised(observe(model, "dense_0"), loss, activity=lambda h: 1e-3 * activity_l1(h["dense_0"]))`.
    """
    return magnitude(wide(h, "activity_l1")).sum(tuple(range(1, h.ndim)))
