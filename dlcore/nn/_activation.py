"""Activations (lecture 8.5): element-wise functions, stable in value and gradient at any magnitude.

At a kink the slope is one of the two beside it: 0 for relu at 0, 1 for leaky_relu and elu at 0 and hard_tanh at ±1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.lookup import lookup
from dlcore.nn._function import Function
from dlcore.nn._graph import Call, compose
from dlcore.types import Model


def linear(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x itself, for layers and outputs without an activation."""
    return x


def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """σ(x) = 1/(1 + e^−x)."""
    return jax.nn.sigmoid(x)


def tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """tanh x = 2σ(2x) − 1."""
    return jnp.tanh(x)


def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """max(0, x), with slope 0 at 0."""
    return jax.nn.relu(x)


def hard_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """max(−1, min(1, x))."""
    return jax.nn.hard_tanh(x)


def softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + e^x), the smooth ReLU."""
    return jax.nn.softplus(x)


def leaky_relu(x: Float[Array, "..."], slope: float = 0.01) -> Float[Array, "..."]:
    """x where positive, slope · x elsewhere."""
    return jax.nn.leaky_relu(x, slope)


def elu(x: Float[Array, "..."], alpha: float = 1.0) -> Float[Array, "..."]:
    """x where positive, α(e^x − 1) elsewhere (Clevert et al. 2016)."""
    return jax.nn.elu(x, alpha)


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x Φ(x) with the exact normal distribution function (Hendrycks & Gimpel 2016)."""
    return jax.nn.gelu(x, approximate=False)


def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x σ(x), also called swish."""
    return jax.nn.silu(x)


def glu(x: Float[Array, "*b c"]) -> Float[Array, "*b half"]:
    """Gated linear unit v σ(g), with v and g the two halves of the last axis (Dauphin et al. 2017)."""
    return jax.nn.glu(x)


def softmax(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """e^{x_i} / Σ_j e^{x_j} over the last axis."""
    return jax.nn.softmax(x)


def log_softmax(x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
    """x_i − log Σ_j e^{x_j} over the last axis, in nats."""
    return jax.nn.log_softmax(x)


def by_name(name: str) -> Callable[[Array], Array]:
    """The activation of that name; `softmax` and `log_softmax` act over the last axis, the others on every element.

    Raises `ValueError`, naming the nearest, for an unknown one.
    """
    known = (linear, sigmoid, tanh, relu, hard_tanh, softplus, leaky_relu, elu, gelu, silu, softmax, log_softmax)
    functions = {function.__name__: function for function in known}
    return lookup("activation", name, functions)


def Activation(function: str | Callable[[Array], Array] | None) -> Model:
    """The model without params that applies `function`, given itself or by name.

    Its kind is "activation" for what acts on every element by itself, which a function of your own is taken to do;
    "glu", "softmax" and "log_softmax" are kinds of their own. Raises `ValueError` for an unknown name and for what
    cannot be called, such as None: no activation is "linear".
    """
    activate = by_name(function) if isinstance(function, str) else function
    if not callable(activate):
        raise ValueError(f'Activation: pass a function or a name, got {activate!r}; no activation is "linear"')
    return Function(activate, activate.__name__ if activate in (glu, softmax, log_softmax) else "activation")


def GLU() -> Model:
    """Layer of `glu`. Its part `gate` is σ, the factor that makes it no function of single elements."""

    def forward(call: Call, x: Float[Array, "*b c"]) -> Float[Array, "*b half"]:
        value, gate = jnp.split(x, 2, axis=-1)
        return value * call("gate", gate)

    return compose(forward, gate=Gate())._replace(kind="glu")


def Gate() -> Model:
    """σ where it multiplies another part: a kind of its own, as it is not an activation that values pass through."""
    return Function(sigmoid, "gate")
