"""Networks as chains of forward–backward pairs (lecture 9.3–9.5).

A `Pair` is a layer or a network; the names of a chain's pairs are the names of its branches of params. `mlp` and
`cnn` take the params of `dlcore.networks.MLP` and `dlcore.networks.CNN` as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.backprop._activation import activation_backward, activation_forward
from dlcore.backprop._conv import conv_backward, conv_forward
from dlcore.backprop._dense import dense_backward, dense_forward
from dlcore.backprop._norm import batch_norm_backward, batch_norm_forward
from dlcore.backprop._pool import avg_pool_backward, avg_pool_forward, max_pool_backward, max_pool_forward
from dlcore.nn import Padding
from dlcore.types import Params


class Pair(NamedTuple):
    """A layer or a network, forward and backward."""

    forward: Callable[[Params, Array], tuple[Array, Any]]
    """`(params, x) -> (y, cache)`."""
    backward: Callable[[Any, Array], tuple[Params, Array]]
    """`(cache, ∂L/∂y) -> (∂L/∂params, ∂L/∂x)`."""


class Loss(NamedTuple):
    """A scalar loss, forward `(outputs, targets) -> (L, cache)` and backward `(cache, L̄) -> ∂L/∂outputs`."""

    forward: Callable[[Array, Array], tuple[Array, Any]]
    backward: Callable[..., Array]


def network_forward(pairs: Mapping[str, Pair], params: Params, x: Array) -> tuple[Array, dict[str, Any]]:
    """Each layer on the output of the one before; the cache is theirs by name."""
    caches = {}
    for name, pair in pairs.items():
        x, caches[name] = pair.forward(params.get(name, {}), x)
    return x, caches


def network_backward(
    pairs: Mapping[str, Pair], caches: Mapping[str, Any], cotangent: Array
) -> tuple[dict[str, Any], Array]:
    """From the last layer to the first, handing ∂L/∂h down; layers without params have no branch in the gradient."""
    gradients = {}
    for name, pair in reversed(pairs.items()):
        found, cotangent = pair.backward(caches[name], cotangent)
        gradients |= {name: found} if found else {}
    return gradients, cotangent


def chain(**pairs: Pair) -> Pair:
    """The pairs in series, as a pair."""
    return Pair(
        lambda params, x: network_forward(pairs, params, x),
        lambda caches, cotangent: network_backward(pairs, caches, cotangent),
    )


def loss_and_gradient(
    network: Pair, loss: Loss, params: Params, x: Float[Array, "b *s"], targets: Array
) -> tuple[Float[Array, ""], dict[str, Any]]:
    """L and ∂L/∂params by one pass forward and one backward: what `jax.value_and_grad` gives."""
    outputs, caches = network.forward(params, x)
    value, cache = loss.forward(outputs, targets)
    return value, network.backward(caches, loss.backward(cache))[0]


def dense_pair() -> Pair:
    """Params `kernel` and `bias`."""

    def backward(cache: Any, cotangent: Array) -> tuple[Params, Array]:
        found = dense_backward(cache, cotangent)
        return {"kernel": found.kernel, "bias": found.bias}, found.x

    return Pair(lambda params, x: dense_forward(x, params["kernel"], params["bias"]), backward)


def activation_pair(name: str) -> Pair:
    """The hidden activation of that name."""
    return Pair(
        lambda params, x: activation_forward(x, name),
        lambda cache, cotangent: ({}, activation_backward(cache, cotangent)),
    )


def conv_pair(*, stride: int | Sequence[int] = 1, padding: Padding = "zero", bias: bool = True) -> Pair:
    """Params `kernel` and, unless `bias=False`, `bias`."""
    options: dict[str, Any] = {"stride": stride, "padding": padding}

    def backward(cache: Any, cotangent: Array) -> tuple[Params, Array]:
        found = conv_backward(cache, cotangent, **options)
        return {"kernel": found.kernel} | ({"bias": found.bias} if bias else {}), found.x

    return Pair(lambda params, x: conv_forward(x, params["kernel"], params.get("bias"), **options), backward)


def pool_pair(
    kind: str,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Padding = "valid",
) -> Pair:
    """Pooling "max" or "avg"; raises `ValueError` for another kind."""
    if kind not in ("max", "avg"):
        raise ValueError(f"kind must be max or avg, got {kind!r}")
    down, up = (max_pool_forward, max_pool_backward) if kind == "max" else (avg_pool_forward, avg_pool_backward)
    options: dict[str, Any] = {"stride": stride, "padding": padding}

    def forward(params: Params, x: Array) -> tuple[Array, Any]:
        y, cache = down(x, window, **options)
        # An array without elements tells the shape of x, and passes through jit as part of the cache.
        return y, (cache, jnp.zeros((*x.shape, 0)))

    def backward(cache: Any, cotangent: Array) -> tuple[Params, Array]:
        found, like = cache
        return {}, up(found, cotangent, like.shape[:-1], window, **options)

    return Pair(forward, backward)


def batch_norm_pair(*, epsilon: float = 1e-5) -> Pair:
    """Params `scale` and `bias`; statistics of the batch, as in training."""

    def backward(cache: Any, cotangent: Array) -> tuple[Params, Array]:
        found = batch_norm_backward(cache, cotangent)
        return {"scale": found.scale, "bias": found.bias}, found.x

    return Pair(lambda params, x: batch_norm_forward(x, params["scale"], params["bias"], epsilon=epsilon), backward)


def reshape_pair(*shape: int) -> Pair:
    """[b, ...] to [b, *shape]; backward is the way back."""
    return Pair(
        lambda params, x: (x.reshape(x.shape[0], *shape), jnp.zeros((*x.shape, 0))),
        lambda cache, cotangent: ({}, cotangent.reshape(cache.shape[:-1])),
    )


def mlp(hidden: int, activation: str = "relu") -> Pair:
    """The pair of `MLP` with as many hidden layers."""
    layers: dict[str, Pair] = {"flatten_0": reshape_pair(-1)}
    for i in range(hidden):
        layers |= {f"dense_{i}": dense_pair(), f"activation_{i}": activation_pair(activation)}
    return chain(**layers, **{f"dense_{hidden}": dense_pair()})


def cnn(stages: int, activation: str = "relu", pool: str = "max") -> Pair:
    """The pair of `CNN` in training with as many stages and a hidden layer."""
    body = {
        f"stage_{i + 1}": chain(
            conv_0=conv_pair(bias=False),
            **{f"{pool}_pool_0": pool_pair(pool, 2)},
            batch_norm_0=batch_norm_pair(),
            activation_0=activation_pair(activation),
        )
        for i in range(stages)
    }
    return chain(**body, head=mlp(1, activation))
