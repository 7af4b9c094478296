"""Normalisation layers (lecture 15). Statistics are float32 at least, whatever the precision of the input.

They do not decide the dtype of the output, which is the one that input, scale and bias promote to.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Real

from dlcore.nn._dtypes import promoted
from dlcore.nn._one_pass import affine, in_one_pass, moments_in_one_pass
from dlcore.nn._rows import apart, by_slabs, check_channels, gradient_once, spread, spread_space, sum_rows, sum_space
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
    variance = _mean_square(x, mean, lambda square: square.mean(axes, keepdims=keepdims))
    return (mean if keepdims else mean.squeeze(axes)), variance


def row_moments(x: Real[Array, "*rows c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance of every channel over all other axes, in float32 at least."""
    if in_one_pass():
        return moments_in_one_pass(x)
    x = wide(x)
    rows, count = x.shape[:-1], math.prod(x.shape[:-1])
    mean = sum_rows(x) / count
    return mean, _mean_square(x, spread(mean, rows), lambda square: sum_rows(square) / count)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _mean_square(x: Array, mean: Array, average: Callable[[Array], Array]) -> Array:
    """The average of (x − mean)², the mean being that of the same average.

    It is least there, so that it does not change with the mean: the gradient needs no sum to find that out.
    """
    return average(jnp.square(x - mean))


@_mean_square.defjvp
def _mean_square_jvp(average: Callable[[Array], Array], primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x, mean), (dx, _) = primals, tangents
    return _mean_square(x, mean, average), average(2 * (x - mean) * dx)


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
    if in_one_pass():
        return affine(x, factor, shift).astype(x.dtype)
    rows = x.shape[:-1]
    return gradient_once((x * spread(factor, rows) + spread(shift, rows)).astype(x.dtype))


def layer_norm(
    x: Real[Array, "*b c"],
    scale: Float[Array, " c"] | None = None,
    bias: Float[Array, " c"] | None = None,
    *,
    axes: Axes = -1,
    epsilon: float = 1e-5,
) -> Float[Array, "*b c"]:
    """y = γ (x − μ)/√(σ² + ε) + β, with statistics of each example over `axes` (Ba et al. 2016)."""
    check_channels("layer_norm", x, scale=scale, bias=bias)
    x, scale, bias = promoted("layer_norm", x, scale, bias)
    mean, variance = moments(x, axes, keepdims=True)
    y = (x - mean) * jax.lax.rsqrt(variance + epsilon)
    y = y if scale is None else y * spread(wide(scale), y.shape[:-1])
    return (y if bias is None else y + spread(wide(bias), y.shape[:-1])).astype(x.dtype)


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
    check_channels("group_norm", x, scale=scale, bias=bias)
    x, scale, bias = promoted("group_norm", x, scale, bias)
    return _group_norm(x, scale, bias, epsilon, groups=groups, slabs=by_slabs())


@functools.partial(jax.jit, static_argnames=("groups", "slabs"))
def _group_norm(
    x: Array, scale: Array | None, bias: Array | None, epsilon: ArrayLike, *, groups: int, slabs: bool
) -> Array:
    """Compiled by itself, so that its many small steps are traced once for each shape and way to add (`slabs`)."""
    x = gradient_once(x)
    mean, variance = _group_moments(wide(x), groups)
    factor = jax.lax.rsqrt(variance + epsilon) * (1 if scale is None else wide(scale))
    # Written as (x − c)·f + (c − mean)·f with a constant c equal to the mean, all that is learned or measured stands in
    # arrays of one number for each example and channel, and the gradient sums over positions twice, not four times.
    space, origin = x.shape[1:-1], jax.lax.stop_gradient(mean)
    shift = (origin - mean) * factor + (0 if bias is None else wide(bias))
    factor, shift = apart((factor, shift))
    y = (wide(x) - spread_space(origin, space)) * spread_space(factor, space) + spread_space(shift, space)
    return gradient_once(y.astype(x.dtype))


def _group_moments(x: Array, groups: int) -> tuple[Array, Array]:
    """Mean and variance of each example over its positions and each block of channels, [b, c] with blocks of equals."""
    space = x.shape[1:-1]

    def average(x: Array) -> Array:
        # Not apart, XLA divides to find the group of a channel at every position of every image.
        sums = apart(sum_space(x))
        means = sums.reshape(len(x), groups, -1).mean(-1, keepdims=True) / math.prod(space)
        means = jnp.broadcast_to(means, (len(x), groups, x.shape[-1] // groups)).reshape(len(x), -1)
        return apart(means)

    mean = average(x)
    return mean, _mean_square(x, spread_space(mean, space), average)


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
