"""All attributions by name, as one number per pixel, to be drawn and measured side by side (lecture 17)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.lookup import lookup
from dlcore.types import Key, Model, Params, State
from dlcore.visualize import _cam as cam
from dlcore.visualize import _occlusion as occlusion
from dlcore.visualize import _rules as rules
from dlcore.visualize import _saliency as saliency


class Question(NamedTuple):
    """A network, images, and the class of each that its answer is about: what every method takes first."""

    model: Model
    params: Params
    state: State
    x: Float[Array, "b h w c"]
    target: Any


@dataclass(frozen=True)
class Settings:
    """What the methods are told beside the network and the images; noise and fillings are in units of its input."""

    layer: str
    """Path of the part whose places the class activation maps weigh."""
    std: float
    """σ of the noise of SmoothGrad."""
    samples: int = 32
    """Draws of SmoothGrad."""
    steps: int = 64
    """Points on the path of integrated gradients."""
    window: int = 4
    stride: int = 2
    masks: int = 500
    grid: int = 7
    block: int = 128
    """Images evaluated at once."""


SIGNED = ("input_times_gradient", "integrated_gradients", "occlusion")
"""Methods whose maps are negative where a pixel speaks against the class."""


def attribution(
    name: str, question: Question, settings: Settings, *, baseline: Float[Array, "h w c"], key: Key
) -> Float[Array, "b h w"]:
    """The map of the method `name`; "random" has independent uniform numbers, which any method must beat.

    Maps of gradients are the largest magnitude over the channels, those of `SIGNED` methods sum over them. `baseline`
    is the image that stands for nothing to be seen. Raises `ValueError`, naming the nearest, for an unknown name.
    """
    return lookup("method", name, METHODS)(question, settings, baseline, key)


def _random(net: Question, settings: Settings, baseline: Array, key: Key) -> Array:
    draw = lambda row: jax.random.uniform(jax.random.fold_in(key, row), net.x.shape[1:3])  # noqa: E731
    return jax.vmap(draw)(jnp.arange(len(net.x)))


def _smooth(net: Question, settings: Settings, baseline: Array, key: Key) -> Array:
    options = {"std": settings.std, "samples": settings.samples, "block": settings.block}
    return saliency.over_channels(saliency.smooth_grad(*net, key=key, **options))


def integrated(net: Question, settings: Settings, baseline: Array, key: Key) -> Float[Array, "b h w c"]:
    """Integrated gradients with the channels apart."""
    return saliency.integrated_gradients(*net, baseline=baseline, steps=settings.steps, block=settings.block)


def _occlusion(net: Question, settings: Settings, baseline: Array, key: Key) -> Array:
    options = {"window": settings.window, "stride": settings.stride, "block": settings.block}
    return occlusion.occlusion(*net, fill=baseline, **options)


def _rise(net: Question, settings: Settings, baseline: Array, key: Key) -> Array:
    options = {"masks": settings.masks, "grid": settings.grid, "block": settings.block}
    return occlusion.rise(*net, key=key, fill=baseline, **options)


def _strongest(method: Callable[..., Array]) -> Callable[..., Array]:
    return lambda net, *_: saliency.over_channels(method(*net))


def _enlarged(method: Callable[..., Array]) -> Callable[..., Array]:
    return lambda net, settings, *_: cam.enlarged(method(*net, settings.layer), net.x.shape[1:3])


METHODS: dict[str, Callable[..., Array]] = {
    "saliency": _strongest(saliency.saliency),
    "smooth_grad": _smooth,
    "input_times_gradient": lambda net, *_: saliency.input_times_gradient(*net).sum(-1),
    "integrated_gradients": lambda *arguments: integrated(*arguments).sum(-1),
    "occlusion": _occlusion,
    "rise": _rise,
    "deconvnet": _strongest(rules.deconvnet),
    "guided_backpropagation": _strongest(rules.guided_backpropagation),
    "grad_cam": _enlarged(cam.grad_cam),
    "hires_cam": _enlarged(cam.hires_cam),
    "layer_cam": _enlarged(cam.layer_cam),
    "guided_grad_cam": lambda net, s, *_: saliency.over_channels(cam.guided_grad_cam(*net, s.layer)),
    "random": _random,
}
