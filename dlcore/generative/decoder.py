"""Decoder likelihoods p(x | h): what a network's outputs say about an image (lecture 23).

Images are floats in [0, 1]; a grey level k of L is the value k/(L − 1). Outputs hold `channels` numbers per sub-pixel,
[..., c · channels] for an image [..., c]; those of a `joint` family hold `channels` per pixel, [..., channels].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative import colour_mixture as shared
from dlcore.generative.check import in_range
from dlcore.generative.colour_mixture import LOG_SCALE_RANGE
from dlcore.losses import gaussian_nll, sigmoid_cross_entropy, softmax_cross_entropy
from dlcore.operands import equal_shapes, has_shape
from dlcore.precision import matmul
from dlcore.setting import Number
from dlcore.setting import whole as count
from dlcore.stats import mixture_log_mass, mixture_mean, mixture_sample
from dlcore.types import Key

FEW_LEVELS = 32
"""Up to so many grey levels, a logit for each is the simplest likelihood; beyond, a mixture of logistics is."""

LOG_STD_RANGE = (-5.0, 2.0)
"""Learned log-scales are clipped to this range, so that no pixel's density grows without bound."""

COLDEST = 1e-12
"""Temperatures below this are taken for it: logits are divided by them, and draws are modes long before."""


class Likelihood(NamedTuple):
    """A family of distributions of one sub-pixel, independent given the outputs, or of a pixel where `joint`."""

    channels: int
    """Outputs per sub-pixel; per pixel where `joint`."""
    discrete: bool
    """Whether `nll` is that of grey levels (a probability), not of real values (a density)."""
    nll: Callable[[Any, Array], Array]
    """`(outputs [..., c·channels], x [..., c]) -> −log p(x | outputs) [..., c]` in nats.

    Raises `ValueError`, naming both shapes, for outputs of another shape: nothing is broadcast."""
    mean: Callable[[Any], Array]
    """`outputs -> E[x]`, in [0, 1] for the discrete families."""
    sample: Callable[..., Array]
    """`(key, outputs, temperature=1.0) -> x`: T below 1 stays nearer to the mode, which 0 is.

    Logits are divided by T, standard deviations and scales multiplied by it."""
    joint: bool = False
    """Whether the outputs of a pixel belong to all its colours: `nll` of each is then given the colours before it.

    An autoregressive network must not see any colour of the pixel itself: make it with `colours=1`."""

    def per_pixel(self, colours: int) -> int:
        """Outputs for a pixel of so many colours."""
        return self.channels if self.joint else colours * self.channels


def _likelihood(
    name: str,
    channels: int,
    discrete: bool,
    nll: Callable[[Array, Array], Array],
    mean: Callable[[Array], Array],
    sample: Callable[[Key, Array, Number], Array],
    colours: int = 0,
    parts: tuple[str, ...] = (),
) -> Likelihood:
    """The family of these functions, which refuses outputs that do not fit the images, and T ≤ 0.

    With `colours` it is `joint`, for images of so many. With `parts` outputs may be a tuple of arrays of these names,
    each of the shape of x.
    """

    def whole(outputs: Any) -> Float[Array, "..."]:
        return outputs if hasattr(outputs, "shape") else _interleaved(name, outputs, parts)

    def fitting(outputs: Any, x: Float[Array, "..."]) -> Float[Array, "..."]:
        outputs = whole(outputs)
        if colours and x.shape[-1] != colours:
            raise ValueError(f"{name}: x has {x.shape[-1]} colours; it was made for {colours}, pass colours= to it")
        shape = (*x.shape[:-1], family.per_pixel(x.shape[-1]))
        unit = "pixel" if colours else "sub-pixel"
        has_shape(name, "outputs", outputs, shape, f"{channels} per {unit} of x {x.shape}")
        return nll(outputs, x)

    def drawn(key: Key, outputs: Any, temperature: Number = 1.0) -> Float[Array, "..."]:
        in_range(name, "temperature", temperature, lambda t: t >= 0, "not be negative")
        return sample(key, whole(outputs), jnp.maximum(temperature, COLDEST))

    family = Likelihood(channels, discrete, fitting, lambda outputs: mean(whole(outputs)), drawn, joint=colours > 0)
    return family


def _interleaved(name: str, outputs: Any, parts: tuple[str, ...]) -> Float[Array, "..."]:
    """One array [..., c·channels] of the arrays [..., c] that a network may give instead."""
    if not parts or not isinstance(outputs, tuple | list) or len(outputs) != len(parts):
        wanted = f"one array, or ({', '.join(parts)})" if parts else "one array"
        count = len(jax.tree.leaves(outputs))
        raise ValueError(f"{name}: outputs are a {type(outputs).__name__} of {count} arrays; want {wanted}")
    equal_shapes(f"{name}, outputs", **dict(zip(parts, outputs, strict=True)))
    return jnp.stack(outputs, axis=-1).reshape(*outputs[0].shape[:-1], -1)


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
    """N(μ, σ²) with both from the network, outputs (μ, log σ) per sub-pixel; log σ is clipped to `LOG_STD_RANGE`.

    Outputs are one array [..., 2c], in which μ and log σ of each sub-pixel are neighbours, or the pair of arrays
    (μ, log σ), each of the shape of x. Raises `ValueError` for arrays of different shapes.
    """

    def split(outputs: Array) -> tuple[Array, Array]:
        numbers = _numbers(outputs, 2)
        return numbers[..., 0], jnp.exp(jnp.clip(numbers[..., 1], *LOG_STD_RANGE))

    def sample(key: Key, outputs: Array, t: Number) -> Array:
        mean, std = split(outputs)
        return mean + t * std * jax.random.normal(key, mean.shape)

    def nll(outputs: Array, x: Array) -> Array:
        mean, std = split(outputs)
        return gaussian_nll(mean, x, std)

    mean = lambda outputs: split(outputs)[0]  # noqa: E731
    return _likelihood("gaussian_learned", 2, False, nll, mean, sample, parts=("mean", "log_std"))


def categorical(levels: int) -> Likelihood:
    """One logit per grey level: −log softmax(a)_k; a value outside [0, 1] has NaN nats.

    Raises `ValueError` for fewer than two levels.
    """
    count(levels, "categorical: levels", least=2)

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
    count(levels, "discretized_logistic: levels", least=2)
    count(components, "discretized_logistic: components")

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


def colour_mixture(levels: int, components: int = 10, colours: int = 3) -> Likelihood:
    """A mixture of logistics whose components all colours of a pixel share, each colour given those before it.

    The family of PixelCNN++ (Salimans et al. 2017, section 2.2), with its layout of outputs, 10 per component for three
    colours: see `generative.colour_mixture`. A value outside [0, 1] has NaN nats. `mean` is exact but for what the ends
    of the range cut off. Raises `ValueError` for fewer than two levels, no component or no colour.
    """
    count(levels, "colour_mixture: levels", least=2)
    count(components, "colour_mixture: components")
    count(colours, "colour_mixture: colours")

    def nll(outputs: Array, x: Array) -> Array:
        level = grey_level(x, levels)
        nats = -shared.log_mass(jnp.clip(level, 0, levels - 1), shared.split(outputs, colours), levels)
        return jnp.where((level >= 0) & (level < levels), nats, jnp.nan)

    def sample(key: Key, outputs: Array, t: Number) -> Array:
        parts = shared.split(outputs, colours)
        colder = parts._replace(logits=parts.logits / t, log_scale=parts.log_scale + jnp.log(t))
        return shared.sample(key, colder, levels) / (levels - 1)

    return _likelihood(
        "colour_mixture",
        channels=components * shared.per_component(colours),
        discrete=True,
        nll=nll,
        mean=lambda outputs: shared.mean(shared.split(outputs, colours), levels) / (levels - 1),
        sample=sample,
        colours=colours,
    )
