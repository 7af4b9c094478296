"""Normalisation layers (lecture 15). Statistics are float32 whatever the precision of the input."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn.init import ones, zeros
from dlcore.nn.rows import spread, sum_rows
from dlcore.types import Input, Key, Model, Params, State

Axes = int | Sequence[int]


def moments(
    x: Float[Array, "..."], axes: Axes, *, keepdims: bool = False
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Mean and biased variance E[(x − E x)²] over `axes`, in float32."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = x.mean(axes, keepdims=True)
    variance = jnp.square(x - mean).mean(axes, keepdims=keepdims)
    return (mean if keepdims else mean.squeeze(axes)), variance


def row_moments(x: Float[Array, "*rows c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance of every channel over all other axes, in float32."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    rows = x.shape[:-1]
    count = math.prod(rows)
    mean = sum_rows(x) / count
    return mean, sum_rows(jnp.square(x - spread(mean, rows))) / count


def batch_norm(
    x: Float[Array, "*b c"],
    mean: Float[Array, " c"],
    variance: Float[Array, " c"],
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "*b c"]:
    """y = γ (x − μ)/√(σ² + ε) + β per channel (Ioffe & Szegedy 2015), in the dtype of x."""
    factor = jax.lax.rsqrt(variance + epsilon)
    factor = factor if scale is None else factor * scale
    shift = -mean * factor if bias is None else bias - mean * factor
    rows = x.shape[:-1]
    return (x * spread(factor, rows) + spread(shift, rows)).astype(x.dtype)


def layer_norm(
    x: Float[Array, "*b c"],
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    axes: Axes = -1,
    epsilon: float = 1e-5,
) -> Float[Array, "*b c"]:
    """y = γ (x − μ)/√(σ² + ε) + β, with statistics of each example over `axes` (Ba et al. 2016)."""
    mean, variance = moments(x, axes, keepdims=True)
    y = (x - mean) * jax.lax.rsqrt(variance + epsilon)
    y = y if scale is None else y * scale
    return (y if bias is None else y + bias).astype(x.dtype)


def group_norm(
    x: Float[Array, "b *space c"],
    groups: int,
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "b *space c"]:
    """Layer norm over all positions of each block of channels (Wu & He 2018); c groups is instance norm."""
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(f"group_norm: groups={groups} does not divide the {x.shape[-1]} channels")
    blocks = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    y = layer_norm(blocks, axes=(*range(1, x.ndim - 1), -1), epsilon=epsilon).reshape(x.shape)
    y = y if scale is None else y * scale
    return (y if bias is None else y + bias).astype(x.dtype)


def _affine(key: Key, x: Input, scale: bool, bias: bool) -> Params:
    shape = (x.shape[-1],)
    return ({"scale": ones(key, shape)} if scale else {}) | ({"bias": zeros(key, shape)} if bias else {})


def BatchNorm(*, momentum: float = 0.9, epsilon: float = 1e-5, scale: bool = True, bias: bool = True) -> Model:
    """Batch norm over all axes but the last, with running statistics for inference.

    In training the batch's own mean and biased variance normalise, and state becomes
    running ← momentum · running + (1 − momentum) · batch. Under jit over a sharded batch these are statistics of the
    global batch. Raises `ValueError` unless 0 ≤ momentum ≤ 1.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"BatchNorm: momentum must lie in [0, 1], got {momentum}")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        shape = (x.shape[-1],)
        return _affine(key, x, scale, bias), {"mean": zeros(key, shape), "variance": ones(key, shape)}

    def apply(
        params: Params, state: State, x: Float[Array, "*b c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "*b c"], State]:
        mean, variance = state["mean"], state["variance"]
        if train:
            mean, variance = row_moments(x)
            new = {"mean": mean, "variance": variance}
            state = jax.tree.map(lambda old, now: momentum * old + (1 - momentum) * now, dict(state), new)
        return batch_norm(x, mean, variance, params.get("scale"), params.get("bias"), epsilon=epsilon), state

    return Model(init, apply)


def LayerNorm(*, epsilon: float = 1e-5, scale: bool = True, bias: bool = True) -> Model:
    """Layer of `layer_norm` over the last axis."""

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return _affine(key, x, scale, bias), {}

    def apply(
        params: Params, state: State, x: Float[Array, "*b c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "*b c"], State]:
        return layer_norm(x, params.get("scale"), params.get("bias"), epsilon=epsilon), state

    return Model(init, apply)


def GroupNorm(groups: int, *, epsilon: float = 1e-5, scale: bool = True, bias: bool = True) -> Model:
    """Layer of `group_norm`."""

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return _affine(key, x, scale, bias), {}

    def apply(
        params: Params, state: State, x: Float[Array, "b *space c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b *space c"], State]:
        return group_norm(x, groups, params.get("scale"), params.get("bias"), epsilon=epsilon), state

    return Model(init, apply)


def InstanceNorm(*, epsilon: float = 1e-5, scale: bool = True, bias: bool = True) -> Model:
    """Layer of `group_norm` with one group per channel: over the positions of an example (Ulyanov et al. 2016)."""

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return _affine(key, x, scale, bias), {}

    def apply(
        params: Params, state: State, x: Float[Array, "b *space c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b *space c"], State]:
        return group_norm(x, x.shape[-1], params.get("scale"), params.get("bias"), epsilon=epsilon), state

    return Model(init, apply)
