"""Divergences between distributions in closed form, per element and in nats (lecture 2.15)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def kl_normal(
    mean: Float[Array, "*s"],
    log_std: Float[Array, "*s"],
    other_mean: Float[Array, "*s"] | float = 0.0,
    other_log_std: Float[Array, "*s"] | float = 0.0,
) -> Float[Array, "*s"]:
    """KL(N(μ, σ²) ‖ N(m, s²)) = log s/σ + (σ² + (μ − m)²)/(2s²) − ½; the other is standard normal unless given."""
    log_ratio = log_std - other_log_std
    distance = (mean - other_mean) * jnp.exp(-jnp.asarray(other_log_std))
    # expm1 keeps the small divergence of two near-equal scales.
    return 0.5 * (jnp.expm1(2 * log_ratio) - 2 * log_ratio + jnp.square(distance))
