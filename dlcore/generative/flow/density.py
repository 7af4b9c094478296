"""Density, samples and the training objective of a flow under a standard normal base (lecture 28, 28.4)."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.evaluation import bits_per_dim
from dlcore.generative.check import in_range, like_examples
from dlcore.generative.flow._chain import log_scales
from dlcore.generative.flow._pixels import dequantize, discrete_nats
from dlcore.setting import Number
from dlcore.types import Aux, Batch, Bijector, Key, Mean, Objective, Params, State


def standard_normal(z: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """log N(z; 0, I) = −½ (‖z‖² + D log 2π) per example, in nats."""
    return -0.5 * (jnp.square(z) + math.log(2 * math.pi)).sum(tuple(range(1, z.ndim)))


def log_prob(bijector: Bijector, params: Params, x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """log p(x) = log N(f(x); 0, I) + log|det J_f(x)|, in nats of the density of x (lecture 28).

    Raises `ValueError` for a bijector whose log-determinant is not one number per example.
    """
    z, log_det = bijector.forward(params, x)
    like_examples("log_prob", "log-determinant", log_det, x)
    return standard_normal(z) + log_det


def sample(
    key: Key, bijector: Bijector, params: Params, shape: Sequence[int], *, temperature: Number = 1.0
) -> Float[Array, "b ..."]:
    """x = f⁻¹(T z) with z ~ N(0, I) of the latent `shape` [b, ...]; T < 1 stays nearer to the mode (lecture 28.4).

    T may be traced. Raises `ValueError` for T < 0.
    """
    in_range("sample", "temperature", temperature, lambda t: t >= 0, "not be negative")
    return bijector.inverse(params, temperature * jax.random.normal(key, tuple(shape)))[0]


def round_trip_error(bijector: Bijector, params: Params, x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """max |x − f⁻¹(f(x))| per example: how far the arithmetic is from a bijection."""
    error = jnp.abs(bijector.inverse(params, bijector.forward(params, x)[0])[0] - x)
    return error.max(tuple(range(1, x.ndim)))


def negative_log_likelihood(bijector: Bijector, *, target: str = "image", levels: int | None = None) -> Objective:
    """L = mean over the batch of −log p(x), in nats.

    With `levels` the target holds grey levels: they are dequantised with noise from the key, and the loss is the upper
    bound `discrete_nats` of the discrete image. Without, the target holds real values and the loss is exact. Metrics:
    `loss`, `largest_log_scale` over all couplings (absolute), and with `levels` `bits_per_dim`.
    """

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        x = batch[target]
        dims = math.prod(x.shape[1:])
        y = x if levels is None else dequantize(x, jax.random.uniform(key, x.shape), levels)
        z, log_det, scales = log_scales(bijector, params, y)
        like_examples("negative_log_likelihood", "log-determinant", log_det, x)
        log_density = standard_normal(z) + log_det
        nats = -log_density if levels is None else discrete_nats(log_density, dims, levels)
        metrics = {"loss": Mean.of(nats)}
        if levels is not None:
            metrics["bits_per_dim"] = Mean.of(bits_per_dim(nats, dims))
        if scales:
            largest = jnp.max(jnp.stack([jnp.abs(s).max() for s in scales.values()]))
            metrics["largest_log_scale"] = Mean(jax.lax.stop_gradient(largest), jnp.float32(1))
        return nats.mean(), Aux(state, metrics)

    return objective
