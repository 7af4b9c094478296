"""Divergences between distributions in closed form, per element and in nats (lecture 2.15)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.stats.check import check_same_batch
from dlcore.stats.special import expm2, wide


def kl_normal(
    mean: Float[Array, "*s"],
    log_std: Float[Array, "*s"],
    other_mean: Float[Array, "*s"] | float = 0.0,
    other_log_std: Float[Array, "*s"] | float = 0.0,
) -> Float[Array, "*s"]:
    """KL(N(μ, σ²) ‖ N(m, s²)) = log s/σ + (σ² + (μ − m)²)/(2s²) − ½; the other is standard normal unless given.

    Computed in at least single precision. Raises `ValueError` for shapes that differ; a scalar goes with every shape.
    """
    named = {"mean": mean, "log_std": log_std, "other_mean": other_mean, "other_log_std": other_log_std}
    check_same_batch("kl_normal", {name: jnp.shape(x) for name, x in named.items()})
    mean, log_std, other_mean, other_log_std = map(wide, named.values())
    # Kept below overflow, which would turn a distance of 0 into NaN.
    largest = jnp.log(jnp.finfo(mean.dtype).max)
    distance = (mean - other_mean) * jnp.exp(jnp.minimum(-other_log_std, largest))
    # Both terms are positive: the small divergence of two near-equal normals keeps its digits.
    return 0.5 * (expm2(2 * (log_std - other_log_std)) + jnp.square(distance))


def kl_bernoulli(logit: Float[Array, "*s"], other_logit: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """KL of two coins with P(1) = σ(a) and σ(b), from finite logits a and b: p (log p − log q) + (1 − p)(…).

    For |b − a| < 1 as log(p eˣ + (1 − p) eʸ), x = (1 − p)(b − a) and y = −p (b − a), whose mean is 0: to full relative
    precision. Raises `ValueError` for shapes that differ.
    """
    check_same_batch("kl_bernoulli", {"logit": jnp.shape(logit), "other_logit": jnp.shape(other_logit)})
    a, b = wide(logit), wide(other_logit)
    p, rest, gap = jax.nn.sigmoid(a), jax.nn.sigmoid(-a), b - a
    near = jnp.abs(gap) < 1
    small = jnp.where(near, gap, 0.0)
    close = jnp.log1p(p * expm2(rest * small) + rest * expm2(-p * small))
    logs = jax.nn.log_sigmoid(a) - jax.nn.log_sigmoid(b), jax.nn.log_sigmoid(-a) - jax.nn.log_sigmoid(-b)
    return jnp.where(near, close, p * logs[0] + rest * logs[1])
