"""Decoder likelihoods p(x | h): what a network's outputs say about an image (lecture 23).

Images are floats in [0, 1]; a grey level k of L is the value k/(L − 1). Outputs hold `channels` numbers per sub-pixel:
[..., c · channels] for an image [..., c].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import has_shape, in_range
from dlcore.losses.classification import sigmoid_cross_entropy, softmax_cross_entropy
from dlcore.losses.regression import gaussian_nll
from dlcore.precision import matmul
from dlcore.setting import Number
from dlcore.stats.discretized import mixture_log_mass, mixture_mean, mixture_sample
from dlcore.types import Key

FEW_LEVELS = 32
"""Up to so many grey levels, a logit for each is the simplest likelihood; beyond, a mixture of logistics is."""

LOG_STD_RANGE = (-5.0, 2.0)
"""Learned log-scales are clipped to this range, so that no pixel's density grows without bound."""

LOG_SCALE_RANGE = (-7.0, 5.0)
"""Range of the log-scale of a discretised logistic."""


class Likelihood(NamedTuple):
    """A family of distributions of one sub-pixel, independent given the outputs."""

    channels: int
    """Outputs per sub-pixel."""
    discrete: bool
    """Whether `nll` is that of grey levels (a probability), not of real values (a density)."""
    nll: Callable[[Array, Array], Array]
    """`(outputs [..., c·channels], x [..., c]) -> −log p(x | outputs) [..., c]` in nats.

    Raises `ValueError`, naming both shapes, for outputs of another shape: nothing is broadcast."""
    mean: Callable[[Array], Array]
    """`outputs -> E[x]`, in [0, 1] for the discrete families."""
    sample: Callable[..., Array]
    """`(key, outputs, temperature=1.0) -> x`: T below 1 stays nearer to the mode.

    Logits are divided by T > 0, standard deviations and scales multiplied by it."""


def _likelihood(
    name: str,
    channels: int,
    discrete: bool,
    nll: Callable[[Array, Array], Array],
    mean: Callable[[Array], Array],
    sample: Callable[[Key, Array, Number], Array],
) -> Likelihood:
    """The family of these functions, which refuses outputs that do not fit the images, and T ≤ 0."""

    def fitting(outputs: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
        shape = (*x.shape[:-1], channels * x.shape[-1])
        has_shape(name, "outputs", outputs, shape, f"{channels} per sub-pixel of x {x.shape}")
        return nll(outputs, x)

    def drawn(key: Key, outputs: Float[Array, "..."], temperature: Number = 1.0) -> Float[Array, "..."]:
        in_range(name, "temperature", temperature, lambda t: t > 0, "be positive")
        return sample(key, outputs, temperature)

    return Likelihood(channels, discrete, fitting, mean, drawn)


def _numbers(outputs: Float[Array, "*s n"], channels: int) -> Float[Array, "*s c channels"]:
    if outputs.shape[-1] % channels:
        raise ValueError(f"outputs have {outputs.shape[-1]} channels; this likelihood needs a multiple of {channels}")
    return outputs.reshape(*outputs.shape[:-1], -1, channels)


def bernoulli() -> Likelihood:
    """Binary pixels, outputs are logits: −x log σ(a) − (1 − x) log(1 − σ(a))."""
    return _likelihood(
        "bernoulli",
        channels=1,
        discrete=True,
        nll=sigmoid_cross_entropy,
        mean=jax.nn.sigmoid,
        sample=lambda key, a, t: jax.random.bernoulli(key, jax.nn.sigmoid(a / t)).astype(jnp.float32),
    )


def gaussian(std: Number) -> Likelihood:
    """N(a, σ²) with one σ for all: up to a constant, the squared error divided by 2σ².

    σ may be traced, to be annealed or searched. Raises `ValueError` for σ ≤ 0 where it is known.
    """
    in_range("gaussian", "std", std, lambda std: std > 0, "be positive")
    return _likelihood(
        "gaussian",
        channels=1,
        discrete=False,
        nll=lambda mean, x: gaussian_nll(mean, x, jnp.broadcast_to(std, mean.shape)),
        mean=lambda mean: mean,
        sample=lambda key, mean, t: mean + t * std * jax.random.normal(key, mean.shape),
    )


def gaussian_learned() -> Likelihood:
    """N(μ, σ²) with both from the network, outputs (μ, log σ) per sub-pixel; log σ is clipped to `LOG_STD_RANGE`."""

    def split(outputs: Array) -> tuple[Array, Array]:
        numbers = _numbers(outputs, 2)
        return numbers[..., 0], jnp.exp(jnp.clip(numbers[..., 1], *LOG_STD_RANGE))

    def sample(key: Key, outputs: Array, t: Number) -> Array:
        mean, std = split(outputs)
        return mean + t * std * jax.random.normal(key, mean.shape)

    def nll(outputs: Array, x: Array) -> Array:
        mean, std = split(outputs)
        return gaussian_nll(mean, x, std)

    return _likelihood("gaussian_learned", 2, False, nll, lambda outputs: split(outputs)[0], sample)


def categorical(levels: int) -> Likelihood:
    """One logit per grey level: −log softmax(a)_k; a value outside [0, 1] has NaN nats.

    Raises `ValueError` for fewer than two levels.
    """
    if levels < 2:
        raise ValueError(f"categorical: levels must be at least 2, got {levels}")

    def nll(outputs: Array, x: Array) -> Array:
        return softmax_cross_entropy(_numbers(outputs, levels), grey_level(x, levels))

    def mean(outputs: Array) -> Array:
        return matmul(jax.nn.softmax(_numbers(outputs, levels)), jnp.linspace(0.0, 1.0, levels))

    def sample(key: Key, outputs: Array, t: Number) -> Array:
        return jax.random.categorical(key, _numbers(outputs, levels) / t) / (levels - 1)

    return _likelihood("categorical", levels, True, nll, mean, sample)


def grey_level(x: Float[Array, "..."], levels: int) -> Array:
    """The level 0 … levels − 1 of values in [0, 1], int32."""
    return jnp.round(x * (levels - 1)).astype(jnp.int32)


def discretized_logistic(levels: int, components: int = 1) -> Likelihood:
    """A mixture of logistics over the grey levels (Salimans et al. 2017); outputs (logit, mean, log-scale) of each.

    Means live on [−1, 1], log-scales are clipped to `LOG_SCALE_RANGE`. A value outside [0, 1] has NaN nats. Raises
    `ValueError` for fewer than two levels or no component.
    """
    if levels < 2 or components < 1:
        raise ValueError(f"discretized_logistic: levels={levels} and components={components}; want 2 or more and 1")

    def split(outputs: Array) -> tuple[Array, Array, Array]:
        logits, mean, log_scale = jnp.split(_numbers(outputs, 3 * components), 3, axis=-1)
        return logits, mean, jnp.clip(log_scale, *LOG_SCALE_RANGE)

    def nll(outputs: Array, x: Array) -> Array:
        level = grey_level(x, levels)
        nats = -mixture_log_mass(jnp.clip(level, 0, levels - 1), *split(outputs), levels)
        return jnp.where((level >= 0) & (level < levels), nats, jnp.nan)

    def sample(key: Key, outputs: Array, t: Number) -> Array:
        logits, mean, log_scale = split(outputs)
        return mixture_sample(key, logits / t, mean, log_scale + jnp.log(t), levels) / (levels - 1)

    return _likelihood(
        "discretized_logistic",
        channels=3 * components,
        discrete=True,
        nll=nll,
        mean=lambda outputs: mixture_mean(*split(outputs), levels) / (levels - 1),
        sample=sample,
    )
