"""Regression losses, per element (lecture 3.12–3.13). `where` sets the loss of other elements to 0."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def masked(loss: Float[Array, "*s"], where: Bool[Array, "*s"] | None) -> Float[Array, "*s"]:
    """The loss where `where` holds (or everywhere), 0 elsewhere."""
    return loss if where is None else jnp.where(where, loss, 0.0)


def safe(x: Float[Array, "*s"], where: Bool[Array, "*s"] | None) -> Float[Array, "*s"]:
    """`x` with elements outside `where` set to 0 beforehand, so that their gradient is 0 even for NaN."""
    return x if where is None else jnp.where(where, x, 0.0)


def squared_error(
    prediction: Float[Array, "*s"], target: Float[Array, "*s"], *, where: Bool[Array, "*s"] | None = None
) -> Float[Array, "*s"]:
    """(y − ŷ)². Its mean is minimised by the conditional mean."""
    return masked(jnp.square(safe(prediction, where) - safe(target, where)), where)


def absolute_error(
    prediction: Float[Array, "*s"], target: Float[Array, "*s"], *, where: Bool[Array, "*s"] | None = None
) -> Float[Array, "*s"]:
    """|y − ŷ|. Its mean is minimised by a conditional median."""
    return masked(jnp.abs(safe(prediction, where) - safe(target, where)), where)


def huber(
    prediction: Float[Array, "*s"],
    target: Float[Array, "*s"],
    delta: float = 1.0,
    *,
    where: Bool[Array, "*s"] | None = None,
) -> Float[Array, "*s"]:
    """½e² for |e| ≤ δ, δ(|e| − ½δ) beyond, with e = y − ŷ (Huber 1964)."""
    error = jnp.abs(safe(prediction, where) - safe(target, where))
    near = jnp.minimum(error, delta)
    return masked(0.5 * near**2 + delta * (error - near), where)


def gaussian_nll(
    mean: Float[Array, "*s"],
    target: Float[Array, "*s"],
    std: Float[Array, "*s"] | float,
    *,
    where: Bool[Array, "*s"] | None = None,
) -> Float[Array, "*s"]:
    """−log N(y; μ, σ²) = ½ log(2πσ²) + (y − μ)²/(2σ²), in nats."""
    error = (safe(target, where) - safe(mean, where)) / std
    return masked(0.5 * math.log(2 * math.pi) + jnp.log(std) + 0.5 * jnp.square(error), where)


def laplace_nll(
    location: Float[Array, "*s"],
    target: Float[Array, "*s"],
    scale: Float[Array, "*s"] | float,
    *,
    where: Bool[Array, "*s"] | None = None,
) -> Float[Array, "*s"]:
    """−log Laplace(y; μ, b) = log(2b) + |y − μ|/b, in nats."""
    return masked(jnp.log(2 * scale) + jnp.abs(safe(target, where) - safe(location, where)) / scale, where)
