"""Generators and discriminators of small images (lecture 27.1; Radford et al. 2016)."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dlcore.nn import (
    Activation,
    BatchNorm,
    BlockConv,
    Call,
    ConvTranspose,
    Dense,
    Flatten,
    Reshape,
    compose,
    leaky_relu,
    serial,
)
from dlcore.nn.init import he_normal
from dlcore.setting import whole
from dlcore.types import Model


def DCGenerator(shape: Sequence[int], widths: Sequence[int], *, activation: str = "relu") -> Model:
    """z [b, d] to images of `shape` (h, w, c) in [−1, 1], by doubling the size once per width.

    A dense layer makes h/2ⁿ × w/2ⁿ × widths[0]; n transposed 4×4 convolutions of stride 2 follow, with batch norm and
    no bias but for the last, which ends in tanh: widths (128, 64) give 28×28 as 7×7×128, 14×14×64, 28×28×c. Raises
    `ValueError` when the size cannot be halved n times.
    """
    height, width, channels = (whole(size, "DCGenerator: a size of the images") for size in shape)
    widths, factor = [whole(features, "DCGenerator: a width") for features in widths], 2 ** len(widths)
    if not widths or height % factor or width % factor:
        raise ValueError(
            f"DCGenerator: {len(widths)} doublings do not end at {height}×{width}; use another number of widths"
        )
    start = (height // factor, width // factor, widths[0])
    stages = {
        "start": serial(
            Dense(math.prod(start), bias=False, kernel_init=he_normal),
            Reshape(start),
            BatchNorm(),
            Activation(activation),
        )
    }
    for i, features in enumerate(widths[1:]):
        up = ConvTranspose(features, 4, stride=2, bias=False, kernel_init=he_normal)
        stages[f"up_{i + 1}"] = serial(up, BatchNorm(), Activation(activation))
    return serial(**stages, image=serial(ConvTranspose(channels, 4, stride=2), Activation("tanh")))


def DCDiscriminator(widths: Sequence[int], *, classes: int = 0, slope: float = 0.2) -> Model:
    """Images to one logit [b]: 4×4 convolutions of stride 2 with leaky ReLU, and a dense layer.

    There is no normalisation, so that every example counts by itself; `nn.SpectralNorm` wraps it. The last layer has
    no bias: a Wasserstein loss does not see it. With `classes`, the input is (x, label) and the features h get the
    logit w·h + e_label·h (projection; Miyato & Koyama 2018, eq. 3).
    """
    layers: list[Model] = []
    for features in widths:
        layers += [BlockConv(features, 4, stride=2, kernel_init=he_normal), Activation(lambda x: leaky_relu(x, slope))]
    return critic(serial(*layers, Flatten()), classes=classes)


def critic(features: Model, *, classes: int = 0) -> Model:
    """One logit [b] on top of `features` h [b, n]: w·h, or w·h + e_label·h of an input (x, label).

    A label outside 0 … classes − 1 gives NaN.
    """

    def forward(call: Call, x: Array, label: Int[Array, " b"] | None = None) -> Array:
        h = call("features", x)
        logit = call("logit", h)[:, 0]
        if not classes:
            return logit
        matches = call("label", h)
        return logit + jnp.take_along_axis(matches, label[:, None], 1, mode="fill", fill_value=jnp.nan)[:, 0]

    parts = {"features": features, "logit": Dense(1, bias=False)}
    parts |= {"label": Dense(classes, bias=False)} if classes else {}
    return compose(forward, **parts)._replace(kind="critic")


def conditioned(model: Model, classes: int) -> Model:
    """`model` with a second input, class numbers [b], joined to the first one [b, d] as a one-hot code."""

    def forward(call: Call, x: Array, label: Int[Array, " b"]) -> Array:
        return call("body", jnp.concatenate([x, jax.nn.one_hot(label, classes, dtype=x.dtype)], -1))

    return compose(forward, body=model)._replace(kind="conditioned")
