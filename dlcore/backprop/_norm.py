"""Batch normalisation in training, forward and backward (lecture 9.2, 15)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.operands import equal_shapes, has_shape


class BatchNormCache(NamedTuple):
    """Standardised inputs, 1/√(σ² + ε) and γ."""

    standardized: Float[Array, "*b c"]
    inverse_std: Float[Array, " c"]
    scale: Float[Array, " c"]


class BatchNormGradients(NamedTuple):
    """∂L/∂x, ∂L/∂γ and ∂L/∂β."""

    x: Float[Array, "*b c"]
    scale: Float[Array, " c"]
    bias: Float[Array, " c"]


def batch_norm_forward(
    x: Float[Array, "*b c"], scale: Float[Array, " c"], bias: Float[Array, " c"], *, epsilon: float = 1e-5
) -> tuple[Float[Array, "*b c"], BatchNormCache]:
    """y = γ x̂ + β with x̂ = (x − μ)/√(σ² + ε), μ and the biased σ² over all axes but the last.

    Raises `ValueError` unless γ and β have one number per channel.
    """
    for name, vector in (("scale", scale), ("bias", bias)):
        has_shape("batch_norm_forward", name, vector, x.shape[-1:], f"one number for each channel of {x.shape}")
    every = tuple(range(x.ndim - 1))
    centred = x - x.mean(every)
    inverse_std = 1 / jnp.sqrt(jnp.square(centred).mean(every) + epsilon)
    standardized = centred * inverse_std
    return scale * standardized + bias, BatchNormCache(standardized, inverse_std, scale)


def batch_norm_backward(cache: BatchNormCache, cotangent: Float[Array, "*b c"]) -> BatchNormGradients:
    """∂L/∂x = γ/√(σ² + ε) · (ȳ − mean ȳ − x̂ · mean(ȳ x̂)), as μ and σ² depend on x (Ioffe & Szegedy 2015).

    Raises `ValueError` for a cotangent of another shape.
    """
    equal_shapes("batch_norm_backward", cotangent=cotangent, x=cache.standardized)
    every = tuple(range(cotangent.ndim - 1))
    mean, along = cotangent.mean(every), (cotangent * cache.standardized).mean(every)
    x = cache.scale * cache.inverse_std * (cotangent - mean - cache.standardized * along)
    return BatchNormGradients(x, (cotangent * cache.standardized).sum(every), cotangent.sum(every))
