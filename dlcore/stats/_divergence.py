"""Divergences between distributions in closed form, per element and in nats (lecture 2.15)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from dlcore.stats._check import check_same_batch
from dlcore.stats._special import expm2, wide


def kl_normal(
    mean: Float[ArrayLike, "*s"],
    log_std: Float[ArrayLike, "*t"],
    other_mean: Float[ArrayLike, "*u"] = 0.0,
    other_log_std: Float[ArrayLike, "*v"] = 0.0,
) -> Float[Array, "*w"]:
    """KL(N(μ, σ²) ‖ N(m, s²)) = log s/σ + (σ² + (μ − m)²)/(2s²) − ½; the other is standard normal unless given.

    Computed in at least single precision. Raises `ValueError` for shapes that differ; a scalar goes with every shape.
    """
    named = {"mean": mean, "log_std": log_std, "other_mean": other_mean, "other_log_std": other_log_std}
    check_same_batch("kl_normal", {name: jnp.shape(x) for name, x in named.items()})
    mean, log_std, other_mean, other_log_std = map(wide, named.values())
    # Kept below overflow, which would turn a distance of 0 into NaN.
    largest = jnp.log(jnp.finfo(mean.dtype).max) - 1
    distance = (mean - other_mean) * jnp.exp(jnp.minimum(-other_log_std, largest))
    # Both terms are positive: the small divergence of two near-equal normals keeps its digits.
    return 0.5 * (expm2(2 * (log_std - other_log_std)) + jnp.square(distance))


def kl_coins(logit: Float[ArrayLike, "*s"], shift: Float[ArrayLike, "*t"]) -> Float[Array, "*u"]:
    """KL of the coins P(1) = σ(a) and σ(a + `shift`), finite a: p log(p/q) + (1 − p) log((1 − p)/(1 − q)).

    For |shift| < 1 as log(p eˣ + (1 − p) eʸ), x = (1 − p) shift and y = −p shift, whose mean is 0: to full relative
    precision. Raises `ValueError` for shapes that differ.
    """
    check_same_batch("kl_coins", {"logit": jnp.shape(logit), "shift": jnp.shape(shift)})
    a, shift = wide(logit), wide(shift)
    p, rest, near = jax.nn.sigmoid(a), jax.nn.sigmoid(-a), jnp.abs(shift) < 1
    small = jnp.where(near, shift, 0.0)
    close = jnp.log1p(p * expm2(rest * small) + rest * expm2(-p * small))
    heads, tails = (jax.nn.log_sigmoid(s * a) - jax.nn.log_sigmoid(s * (a + shift)) for s in (1, -1))
    return jnp.where(near, close, p * heads + rest * tails)
