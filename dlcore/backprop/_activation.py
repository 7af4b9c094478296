"""Activations, forward and backward: the backward is a product with the slope (lecture 9.2).

At a kink the slope is that of `jax.grad`, the one that `dlcore.nn` states.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jax.scipy.special import erf
from jaxtyping import Array, Float

from dlcore.nn import by_name, sigmoid
from dlcore.operands import equal_shapes


def linear_slope(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """1 everywhere."""
    return jnp.ones_like(x)


def sigmoid_slope(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """σ′ = σ (1 − σ), from the output y = σ(x)."""
    return y * (1 - y)


def tanh_slope(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """tanh′ = 1 − tanh², from the output."""
    return 1 - jnp.square(y)


def relu_slope(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """1 where x > 0, else 0."""
    return (x > 0).astype(x.dtype)


def hard_tanh_slope(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """1 where |x| ≤ 1, else 0."""
    return (jnp.abs(x) <= 1).astype(x.dtype)


def softplus_slope(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The sigmoid."""
    return sigmoid(x)


def leaky_relu_slope(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """1 where x ≥ 0, else 0.01."""
    return jnp.where(x >= 0, 1.0, 0.01).astype(x.dtype)


def elu_slope(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """1 where x > 0, else e^x = y + 1."""
    return jnp.where(x > 0, 1.0, y + 1).astype(x.dtype)


def gelu_slope(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """(x Φ(x))′ = Φ(x) + x φ(x)."""
    density = jnp.exp(-0.5 * jnp.square(x)) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + erf(x / math.sqrt(2))) + x * density


def silu_slope(x: Float[Array, "*s"], y: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """(x σ(x))′ = σ(x) + y (1 − σ(x))."""
    s = sigmoid(x)
    return s + y * (1 - s)


SLOPES: dict[str, Callable[[Array, Array], Array]] = {
    "linear": linear_slope,
    "sigmoid": sigmoid_slope,
    "tanh": tanh_slope,
    "relu": relu_slope,
    "hard_tanh": hard_tanh_slope,
    "softplus": softplus_slope,
    "leaky_relu": leaky_relu_slope,
    "elu": elu_slope,
    "gelu": gelu_slope,
    "silu": silu_slope,
}
"""φ′(x) by the name of φ in `dlcore.nn`, from input and output."""


def activation_forward(x: Float[Array, "*s"], name: str) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """y = φ(x), and the slopes φ′(x) as cache.

    Raises `ValueError` for an unknown name, and for a softmax, whose outputs depend on all inputs.
    """
    y = by_name(name)(x)
    if name not in SLOPES:
        raise ValueError(f"activation_forward: {name} is not element-wise and has no slope; one of {', '.join(SLOPES)}")
    return y, SLOPES[name](x, y)


def activation_backward(cache: Float[Array, "*s"], cotangent: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """∂L/∂x = ȳ ⊙ φ′(x). Raises `ValueError` for different shapes."""
    equal_shapes("activation_backward", cache=cache, cotangent=cotangent)
    return cotangent * cache
