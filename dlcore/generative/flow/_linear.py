"""Linear bijections over the channels: permutation, invertible 1×1 convolution, actnorm (lecture 28.3)."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.generative.flow._chain import Moved, no_change
from dlcore.operands import has_shape, wide
from dlcore.precision import highest
from dlcore.setting import number, whole
from dlcore.types import Bijector, Key, Params


def sites(x: Float[Array, "b *s"]) -> int:
    """How many positions share a map over the channels: h·w of an image, 1 of a point."""
    return math.prod(x.shape[1:-1])


def Permutation(order: Sequence[int]) -> Bijector:
    """z_c = x_{order[c]} over the last axis, fixed; volumes stay the same. Raises `ValueError` for no permutation.

    `reversed_order` and `random_order` give the usual orders.
    """
    if sorted(order) != list(range(len(order))):
        raise ValueError(f"Permutation: {tuple(order)} does not name every number from 0 to {len(order) - 1} once")
    order, back = np.asarray(order, np.int32), np.argsort(order).astype(np.int32)

    def moved(x: Array, order: np.ndarray) -> Moved:
        if x.shape[-1] != len(order):
            raise ValueError(f"Permutation: {x.shape[-1]} channels, but the order has {len(order)}")
        return x[..., order], no_change(x)

    def init(key: Key, x: Array) -> Params:
        moved(x, order)
        return {}

    def forward(params: Params, x: Array) -> Moved:
        return moved(x, order)

    def inverse(params: Params, z: Array) -> Moved:
        return moved(z, back)

    return Bijector(init, forward, inverse, "permutation")


def reversed_order(channels: int) -> tuple[int, ...]:
    """c − 1, …, 0."""
    return tuple(range(channels))[::-1]


def random_order(key: Key, channels: int) -> tuple[int, ...]:
    """A random permutation of 0, …, c − 1."""
    return tuple(jax.random.permutation(key, channels).tolist())


def InvertibleConv() -> Bijector:
    """1×1 convolution z = x W over the channels; log|det J| = h·w·log|det W| (Kingma & Dhariwal 2018, eq. 9).

    Param `kernel` [c, c] starts as a random rotation. The determinant costs O(c³); `InvertibleConvPLU` costs O(c).
    Raises `ValueError` for another number of channels than at the start.
    """

    @jax.jit
    def init(key: Key, x: Array) -> Params:
        return {"kernel": jax.nn.initializers.orthogonal()(key, (x.shape[-1],) * 2, jnp.float32)}

    @highest
    def forward(params: Params, x: Array) -> Moved:
        _check_kernel(params["kernel"], x)
        log_det = sites(x) * jnp.linalg.slogdet(params["kernel"])[1]
        return x @ params["kernel"], jnp.broadcast_to(log_det, x.shape[:1])

    @highest
    def inverse(params: Params, z: Array) -> Moved:
        _check_kernel(params["kernel"], z)
        x = z @ jnp.linalg.inv(params["kernel"])
        return x, jnp.broadcast_to(-sites(z) * jnp.linalg.slogdet(params["kernel"])[1], z.shape[:1])

    return Bijector(init, forward, inverse, "invertible_conv")


def _check_kernel(kernel: Array, x: Array) -> None:
    has_shape("InvertibleConv", "kernel", kernel, (x.shape[-1],) * 2, f"for the channels of x {x.shape}")


def InvertibleConvPLU(channels: int, *, seed: int = 0, rotate: bool = True) -> Bijector:
    """1×1 convolution by W = P L (U + diag(s)); log|det J| = h·w·Σ log|s| (Kingma & Dhariwal 2018, eq. 10–11).

    Params: `lower` and `upper` (entries outside their strict triangle are not used) and `log_scale` = log|s|. The
    permutation P and the signs of s are constants of the map, from the decomposition of a random rotation, or with
    `rotate=False` of a random permutation, so that channels start unmixed. For row vectors as here: z = x Wᵀ. Raises
    `ValueError` for another number of channels.
    """
    channels = whole(channels, "InvertibleConvPLU: channels")
    start = _rotation(channels, seed) if rotate else np.eye(channels)[np.random.default_rng(seed).permutation(channels)]
    permutation, lower, upper = _plu(start)
    signs = np.sign(np.diag(upper))

    def check(x: Array) -> None:
        if x.shape[-1] != channels:
            raise ValueError(f"InvertibleConvPLU: made for {channels} channels, got shape {x.shape}")

    def init(key: Key, x: Array) -> Params:
        check(x)
        parts = {"lower": np.tril(lower, -1), "upper": np.triu(upper, 1), "log_scale": np.log(np.abs(np.diag(upper)))}
        return {name: jnp.asarray(part, jnp.float32) for name, part in parts.items()}

    def triangles(params: Params, dtype: object) -> tuple[Array, Array]:
        left = jnp.tril(params["lower"], -1) + jnp.eye(channels, dtype=dtype)
        return left, jnp.triu(params["upper"], 1) + jnp.diag(signs.astype(dtype) * jnp.exp(params["log_scale"]))

    def log_det(params: Params, x: Array) -> Float[Array, " b"]:
        return jnp.broadcast_to(sites(x) * params["log_scale"].sum(), x.shape[:1])

    @highest
    def forward(params: Params, x: Array) -> Moved:
        check(x)
        left, right = triangles(params, x.dtype)
        return x @ (permutation.astype(x.dtype) @ left @ right).T, log_det(params, x)

    @highest
    def inverse(params: Params, z: Array) -> Moved:
        check(z)
        left, right = triangles(params, z.dtype)
        # W⁻¹ once, c×c: solving for all positions took ten times as long as the product with it.
        columns = permutation.T.astype(z.dtype)
        columns = jax.scipy.linalg.solve_triangular(left, columns, lower=True, unit_diagonal=True)
        inverted = jax.scipy.linalg.solve_triangular(right, columns)
        return z @ inverted.T, -log_det(params, z)

    return Bijector(init, forward, inverse, "invertible_conv_plu")


def _rotation(channels: int, seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((channels, channels)))
    return q * np.sign(np.diag(r))


def _plu(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P, L, U with matrix = P L U, by elimination with row exchanges."""
    size, upper = len(matrix), matrix.copy()
    lower, rows = np.eye(size), np.eye(size)
    for k in range(size - 1):
        pivot = k + int(np.argmax(np.abs(upper[k:, k])))
        for array, columns in ((upper, slice(k, None)), (lower, slice(0, k)), (rows, slice(None))):
            array[[k, pivot], columns] = array[[pivot, k], columns]
        lower[k + 1 :, k] = upper[k + 1 :, k] / upper[k, k]
        upper[k + 1 :] -= lower[k + 1 :, k : k + 1] * upper[k]
    return rows.T, lower, np.triu(upper)


def actnorm(
    x: Float[Array, "b *s c"], bias: Float[Array, " c"], log_scale: Float[Array, " c"]
) -> tuple[Float[Array, "b *s c"], Float[Array, " b"]]:
    """z = (x + b)·exp(l) per channel, log|det J| = h·w·Σ l (Kingma & Dhariwal 2018, section 3.1).

    Raises `ValueError` unless b and l hold one number per channel.
    """
    _check_channels(x, bias, log_scale)
    return (x + bias) * jnp.exp(log_scale), jnp.broadcast_to(sites(x) * log_scale.sum(), x.shape[:1])


def _check_channels(x: Array, bias: Array, log_scale: Array) -> None:
    for name, values in (("bias", bias), ("log_scale", log_scale)):
        has_shape("actnorm", name, values, x.shape[-1:], f"one number per channel of x {x.shape}")


def ActNorm(*, epsilon: float = 1e-6) -> Bijector:
    """`actnorm` whose start makes the first batch mean 0 and variance 1 per channel: b = −μ, l = −log(σ + ε)."""
    number(epsilon, "ActNorm: epsilon", "[0, ∞)")

    @jax.jit
    def init(key: Key, x: Array) -> Params:
        axes = tuple(range(x.ndim - 1))
        x = wide(x)
        start = {"bias": -x.mean(axes), "log_scale": -jnp.log(x.std(axes) + epsilon)}
        return {name: param.astype(jnp.float32) for name, param in start.items()}

    def forward(params: Params, x: Array) -> Moved:
        return actnorm(x, params["bias"], params["log_scale"])

    def inverse(params: Params, z: Array) -> Moved:
        _check_channels(z, params["bias"], params["log_scale"])
        x = z * jnp.exp(-params["log_scale"]) - params["bias"]
        return x, jnp.broadcast_to(-sites(z) * params["log_scale"].sum(), z.shape[:1])

    return Bijector(init, forward, inverse, "act_norm")
