"""Normalisation layers (lecture 15). Statistics are float32 at least, whatever the precision of the input.

They do not decide the dtype of the output, which is the one that input, scale and bias promote to.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from dlcore.nn._dtypes import promoted
from dlcore.nn._rows import check_channels, spread, spread_space, sum_rows, sum_space
from dlcore.nn.init import ones, zeros
from dlcore.operands import wide
from dlcore.setting import Size, number, whole
from dlcore.types import Input, Key, Model, Params, State

Axes = int | Sequence[int]


def moments(
    x: Real[Array, "..."], axes: Axes, *, keepdims: bool = False
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Mean and biased variance E[(x − E x)²] over `axes`, in float32 at least."""
    x = wide(x)
    mean = x.mean(axes, keepdims=True)
    variance = jnp.square(x - mean).mean(axes, keepdims=keepdims)
    return (mean if keepdims else mean.squeeze(axes)), variance


def row_moments(x: Real[Array, "*rows c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance of every channel over all other axes, in float32 at least."""
    x = wide(x)
    rows, count = x.shape[:-1], math.prod(x.shape[:-1])
    mean = sum_rows(x) / count
    return mean, sum_rows(jnp.square(x - spread(mean, rows))) / count


def batch_norm(
    x: Real[Array, "*b c"],
    mean: Float[Array, " c"],
    variance: Float[Array, " c"],
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "*b c"]:
    """y = γ (x − μ)/√(σ² + ε) + β per channel (Ioffe & Szegedy 2015). Raises `ValueError` for other shapes."""
    check_channels("batch_norm", x, mean=mean, variance=variance, scale=scale, bias=bias)
    x, scale, bias = promoted("batch_norm", x, scale, bias)
    factor = jax.lax.rsqrt(wide(variance) + epsilon)
    factor = factor if scale is None else factor * scale
    shift = -mean * factor if bias is None else bias - mean * factor
    rows = x.shape[:-1]
    return (x * spread(factor, rows) + spread(shift, rows)).astype(x.dtype)


def layer_norm(
    x: Real[Array, "*b c"],
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    axes: Axes = -1,
    epsilon: float = 1e-5,
) -> Float[Array, "*b c"]:
    """y = γ (x − μ)/√(σ² + ε) + β, with statistics of each example over `axes` (Ba et al. 2016)."""
    x, scale, bias = promoted("layer_norm", x, scale, bias)
    mean, variance = moments(x, axes, keepdims=True)
    return _affine("layer_norm", (x - mean) * jax.lax.rsqrt(variance + epsilon), scale, bias).astype(x.dtype)


def group_norm(
    x: Real[Array, "b *space c"],
    groups: Size,
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "b *space c"]:
    """Layer norm over all positions of each block of channels (Wu & He 2018); c groups is instance norm."""
    groups = whole(groups, "group_norm: groups")
    if x.shape[-1] % groups:
        raise ValueError(f"group_norm: groups={groups} does not divide the {x.shape[-1]} channels")
    x, scale, bias = promoted("group_norm", x, scale, bias)
    return _affine("group_norm", _standardized(wide(x), groups, epsilon), scale, bias).astype(x.dtype)


def _standardized(x: Array, groups: int, epsilon: float) -> Array:
    """(x − μ)/√(σ² + ε) with statistics of each example over its positions and each of `groups` blocks of channels."""
    space = x.shape[1:-1]

    def mean(x: Array) -> Array:
        means = sum_space(x).reshape(len(x), groups, -1).mean(-1, keepdims=True) / math.prod(space)
        return jnp.broadcast_to(means, (len(x), groups, x.shape[-1] // groups)).reshape(len(x), -1)

    centred = x - spread_space(mean(x), space)
    return centred * spread_space(jax.lax.rsqrt(mean(jnp.square(centred)) + epsilon), space)


def _affine(layer: str, y: Array, scale: Array | None, bias: Array | None) -> Array:
    check_channels(layer, y, scale=scale, bias=bias)
    y = y if scale is None else y * spread(wide(scale), y.shape[:-1])
    return y if bias is None else y + spread(wide(bias), y.shape[:-1])


def _params(key: Key, x: Input, scale: bool, bias: bool) -> Params:
    shape = (x.shape[-1],)
    return ({"scale": ones(key, shape)} if scale else {}) | ({"bias": zeros(key, shape)} if bias else {})


def BatchNorm(*, momentum: float = 0.9, epsilon: float = 1e-5, scale: bool = True, bias: bool = True) -> Model:
    """Batch norm over all axes but the last, with running statistics for inference.

    In training the batch's own mean and biased variance normalise, and state becomes
    running ← momentum · running + (1 − momentum) · batch. Under jit over a sharded batch these are statistics of the
    global batch. Raises `ValueError` unless 0 ≤ momentum ≤ 1.
    """
    number(momentum, "BatchNorm: momentum", "[0, 1]")
    number(epsilon, "BatchNorm: epsilon", "[0, ∞)")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        shape = (x.shape[-1],)
        return _params(key, x, scale, bias), {"mean": zeros(key, shape), "variance": ones(key, shape)}

    def apply(
        params: Params, state: State, x: Real[Array, "*b c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "*b c"], State]:
        mean, variance = state["mean"], state["variance"]
        if train:
            mean, variance = row_moments(x)
            new = {"mean": mean, "variance": variance}
            state = jax.tree.map(lambda old, now: _running(old, now, momentum), dict(state), new)
        return batch_norm(x, mean, variance, params.get("scale"), params.get("bias"), epsilon=epsilon), state

    return Model(init, apply, "batch_norm")


def _running(old: ArrayLike, now: Array, momentum: float) -> Array:
    old = jnp.asarray(old)
    return (momentum * wide(old) + (1 - momentum) * now).astype(old.dtype)


def LayerNorm(*, epsilon: float = 1e-5, scale: bool = True, bias: bool = True) -> Model:
    """Layer of `layer_norm` over the last axis."""
    number(epsilon, "LayerNorm: epsilon", "[0, ∞)")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return _params(key, x, scale, bias), {}

    def apply(
        params: Params, state: State, x: Real[Array, "*b c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "*b c"], State]:
        return layer_norm(x, params.get("scale"), params.get("bias"), epsilon=epsilon), state

    return Model(init, apply, "layer_norm")


def GroupNorm(groups: Size, *, epsilon: float = 1e-5, scale: bool = True, bias: bool = True) -> Model:
    """Layer of `group_norm`."""
    groups = whole(groups, "GroupNorm: groups")
    number(epsilon, "GroupNorm: epsilon", "[0, ∞)")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return _params(key, x, scale, bias), {}

    def apply(
        params: Params, state: State, x: Real[Array, "b *space c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b *space c"], State]:
        return group_norm(x, groups, params.get("scale"), params.get("bias"), epsilon=epsilon), state

    return Model(init, apply, "group_norm")


def InstanceNorm(*, epsilon: float = 1e-5, scale: bool = True, bias: bool = True) -> Model:
    """Layer of `group_norm` with one group per channel: over the positions of an example (Ulyanov et al. 2016)."""
    number(epsilon, "InstanceNorm: epsilon", "[0, ∞)")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return _params(key, x, scale, bias), {}

    def apply(
        params: Params, state: State, x: Real[Array, "b *space c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b *space c"], State]:
        return group_norm(x, x.shape[-1], params.get("scale"), params.get("bias"), epsilon=epsilon), state

    return Model(init, apply, "instance_norm")
