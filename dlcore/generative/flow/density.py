"""Density, samples and the training objective of a flow under a standard normal base (lecture 28, 28.4).

A conditional flow has these of p(x | condition): the condition [b, ...] follows the other arrays. A class-conditional
Gaussian base is a flow whose last part is `ConditionalAffine`.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.evaluation import bits_per_dim
from dlcore.generative.check import in_range, like_examples
from dlcore.generative.flow._chain import given, log_scales
from dlcore.generative.flow._dequantization import Dequantizer, uniform
from dlcore.generative.flow._pixels import dequantize, discrete_nats
from dlcore.setting import Number
from dlcore.types import Aux, Batch, Bijector, Key, Mean, Objective, Params, State


def standard_normal(z: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """log N(z; 0, I) = −½ (‖z‖² + D log 2π) per example, in nats."""
    return -0.5 * (jnp.square(z) + math.log(2 * math.pi)).sum(tuple(range(1, z.ndim)))


def log_prob(
    bijector: Bijector, params: Params, x: Float[Array, "b ..."], *condition: Float[Array, "b ..."]
) -> Float[Array, " b"]:
    """log p(x) = log N(f(x); 0, I) + log|det J_f(x)|, in nats of the density of x (lecture 28).

    Raises `ValueError` for a bijector whose log-determinant is not one number per example, and for a condition that is
    missing or superfluous.
    """
    z, log_det = bijector.forward(params, x, *given("log_prob", bijector, x, condition))
    like_examples("log_prob", "log-determinant", log_det, x)
    return standard_normal(z) + log_det


def sample(
    key: Key,
    bijector: Bijector,
    params: Params,
    shape: Sequence[int],
    *condition: Float[Array, "b ..."],
    temperature: Number = 1.0,
) -> Float[Array, "b ..."]:
    """x = f⁻¹(T z) with z ~ N(0, I) of the latent `shape` [b, ...]; T < 1 stays nearer to the mode (lecture 28.4).

    T may be traced. Raises `ValueError` for T < 0, and for a condition that is missing or superfluous.
    """
    in_range("sample", "temperature", temperature, lambda t: t >= 0, "not be negative")
    z = temperature * jax.random.normal(key, tuple(shape))
    return bijector.inverse(params, z, *given("sample", bijector, z, condition))[0]


def round_trip_error(
    bijector: Bijector, params: Params, x: Float[Array, "b ..."], *condition: Float[Array, "b ..."]
) -> Float[Array, " b"]:
    """max |x − f⁻¹(f(x))| per example: how far the arithmetic is from a bijection."""
    condition = given("round_trip_error", bijector, x, condition)
    error = jnp.abs(bijector.inverse(params, bijector.forward(params, x, *condition)[0], *condition)[0] - x)
    return error.max(tuple(range(1, x.ndim)))


def negative_log_likelihood(
    bijector: Bijector,
    *,
    target: str = "image",
    levels: int | None = None,
    condition: str | None = None,
    dequantizer: Dequantizer | None = None,
    dims: int | None = None,
) -> Objective:
    """L = mean over the batch of −log p(x), in nats; of a conditional flow −log p(x | `batch[condition]`).

    With `levels` the target holds grey levels: they are dequantised with noise from the key, and the loss is the upper
    bound `discrete_nats` of the discrete image. Without, the target holds real values and the loss is exact. A
    `dequantizer` that learns has its params in the branch `dequantizer`, beside those of the flow; the noise is uniform
    if it is not given. Metrics: `loss`, `largest_log_scale` over all couplings (absolute), and with `levels`
    `bits_per_dim`, per entry of the target or per each of `dims`, where a border was added to the image. Raises
    `ValueError` for a conditional flow without a name of its condition, or the reverse.
    """
    if bijector.conditional != (condition is not None):
        wanted = "takes a condition; name its entry of the batch" if bijector.conditional else "takes none"
        raise ValueError(f"negative_log_likelihood: condition={condition!r}, but the flow {wanted}")
    noise = uniform() if dequantizer is None else dequantizer

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        x = batch[target]
        paid = math.prod(x.shape[1:])
        told = () if condition is None else given("negative_log_likelihood", bijector, x, (batch[condition],))
        u, log_q = (None, 0.0) if levels is None else noise.draw(key, params.get("dequantizer", {}), x)
        y = x if levels is None else dequantize(x, u, levels)
        z, log_det, scales = log_scales(bijector, params, y, *told)
        like_examples("negative_log_likelihood", "log-determinant", log_det, x)
        log_density = standard_normal(z) + log_det - log_q
        nats = -log_density if levels is None else discrete_nats(log_density, paid, levels)
        mean = Mean.of(nats)
        metrics = {"loss": mean}
        if levels is not None:
            metrics["bits_per_dim"] = Mean(bits_per_dim(mean.total, dims or paid), mean.count)
        if scales:
            largest = jnp.max(jnp.stack([jnp.abs(s).max() for s in scales.values()]))
            metrics["largest_log_scale"] = Mean(jax.lax.stop_gradient(largest), jnp.float32(1))
        return nats.mean(), Aux(state, metrics)

    return objective
