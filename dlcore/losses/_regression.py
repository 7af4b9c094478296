"""Regression losses, per element (lecture 3.12–3.13).

Prediction and target have equal shapes, and so has `where`, which sets the loss of other elements to 0; nothing is
broadcast. Integers and half precision are computed in float32. Raises `ValueError` for shapes that differ.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Num

from dlcore.operands import Discrete, equal_shapes, known, magnitude, marks, masked, safe, wide
from dlcore.setting import number


def operands(
    function: str, where: Any, **arrays: Any
) -> tuple[Float[Array, "*s"], Float[Array, "*s"], Bool[Array, "*s"] | None]:
    """Two arrays of equal shape, in float32 at least and 0 outside the mask, and the mask."""
    where = marks(function, where, equal_shapes(function, **arrays))
    first, second = (safe(wide(array, function), where) for array in arrays.values())
    return first, second, where


def squared_error(
    prediction: Num[Array, "*s"], target: Num[Array, "*s"], *, where: Discrete[Array, "*s"] | None = None
) -> Float[Array, "*s"]:
    """(y − ŷ)². Its mean is minimised by the conditional mean."""
    prediction, target, where = operands("squared_error", where, prediction=prediction, target=target)
    return jnp.square(prediction - target)


def absolute_error(
    prediction: Num[Array, "*s"], target: Num[Array, "*s"], *, where: Discrete[Array, "*s"] | None = None
) -> Float[Array, "*s"]:
    """|y − ŷ|, with gradient 0 at 0. Its mean is minimised by a conditional median."""
    prediction, target, where = operands("absolute_error", where, prediction=prediction, target=target)
    return magnitude(prediction - target)


def huber(
    prediction: Num[Array, "*s"],
    target: Num[Array, "*s"],
    delta: Float[ArrayLike, ""] | float = 1.0,
    *,
    where: Discrete[Array, "*s"] | None = None,
) -> Float[Array, "*s"]:
    """½e² for |e| ≤ δ, δ(|e| − ½δ) beyond, with e = y − ŷ (Huber 1964). Raises `ValueError` unless δ > 0."""
    delta = wide(jnp.asarray(number(delta, "huber: delta", "(0, ∞]")), "huber")
    prediction, target, where = operands("huber", where, prediction=prediction, target=target)
    error = magnitude(prediction - target)
    near = jnp.minimum(error, delta)
    return 0.5 * near**2 + delta * (error - near)


def gaussian_nll(
    mean: Num[Array, "*s"],
    target: Num[Array, "*s"],
    std: Float[Array, "*s"] | Float[ArrayLike, ""] | float,
    *,
    where: Discrete[Array, "*s"] | None = None,
) -> Float[Array, "*s"]:
    """−log N(y; μ, σ²) = ½ log(2πσ²) + (y − μ)²/(2σ²), in nats.

    σ is one number or has the shape of the mean. Raises `ValueError` outside `jit` unless σ > 0 wherever it counts.
    """
    mean, target, where = operands("gaussian_nll", where, mean=mean, target=target)
    std = safe(_positive("gaussian_nll", "std", std, where, mean.shape), where, 1.0)
    error = (target - mean) / std
    return masked(0.5 * math.log(2 * math.pi) + jnp.log(std) + 0.5 * jnp.square(error), where)


def laplace_nll(
    location: Num[Array, "*s"],
    target: Num[Array, "*s"],
    scale: Float[Array, "*s"] | Float[ArrayLike, ""] | float,
    *,
    where: Discrete[Array, "*s"] | None = None,
) -> Float[Array, "*s"]:
    """−log Laplace(y; μ, b) = log(2b) + |y − μ|/b, in nats, with gradient 0 for μ at μ = y.

    b is one number or has the shape of μ. Raises `ValueError` outside `jit` unless b > 0 wherever it counts.
    """
    location, target, where = operands("laplace_nll", where, location=location, target=target)
    scale = safe(_positive("laplace_nll", "scale", scale, where, location.shape), where, 1.0)
    return masked(jnp.log(2 * scale) + magnitude(target - location) / scale, where)


def _positive(
    function: str, name: str, value: Any, where: Any = None, shape: tuple[int, ...] = ()
) -> Float[Array, "..."]:
    """The value as an array in float32 at least, once its shape, and outside `jit` its sign, is right."""
    given = jnp.shape(value)
    if given not in ((), shape):
        raise ValueError(f"{function}: {name} has shape {given}, expected one number or {shape}; nothing is broadcast")
    if known(value, where):
        bad = np.broadcast_to(np.asarray(value) <= 0, shape)
        if (bad if where is None else bad & np.asarray(where)).any():
            raise ValueError(f"{function}: {name} must be positive, got {np.min(np.asarray(value)):g}")
    # Under a mask one number is repeated, so that it has no gradient, and need not be a number, where nothing counts.
    value = wide(jnp.asarray(value), function)
    return value if where is None else jnp.broadcast_to(value, shape)
