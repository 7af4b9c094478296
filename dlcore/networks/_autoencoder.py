"""Encoders and decoders of images (lecture 19, 21, 24)."""

import math
from collections.abc import Sequence

from dlcore.nn import GLU, Activation, Conv, Dense, DepthToSpace, Flatten, KeepLargest, Reshape, serial
from dlcore.types import Model


def _hidden(widths: Sequence[int], activation: str) -> list[Model]:
    """Dense layers with an activation; "gated" ones multiply by a sigmoid gate."""
    layers: list[Model] = []
    for width in widths:
        layers += [Dense(2 * width), GLU()] if activation == "gated" else [Dense(width), Activation(activation)]
    return layers


def _code(outputs: int, activation: str, keep: int) -> list[Model]:
    """The layer of the code: with `keep` all but so many of its units are 0."""
    last = [] if activation == "linear" else [Activation(activation)]
    return [Dense(outputs), *last, *([KeepLargest(keep)] if keep else [])]


def MLPEncoder(
    widths: Sequence[int], outputs: int, *, activation: str = "gated", code: str = "linear", keep: int = 0
) -> Model:
    """Flattened image to `outputs` numbers; activation "gated" is h = (W x + b) ⊙ σ(V x + c).

    `code` is the activation of the outputs; with `keep` only so many of them, the largest, are not 0.
    """
    return serial(Flatten(), *_hidden(widths, activation), *_code(outputs, code, keep))


def MLPDecoder(widths: Sequence[int], shape: Sequence[int], *, activation: str = "gated") -> Model:
    """Code to an array of `shape` per example."""
    return serial(*_hidden(widths, activation), Dense(math.prod(shape)), Reshape(shape))


def mirrored_ties(layers: int) -> dict[str, str]:
    """The kernels that an `MLPDecoder` of so many layers shares with the `MLPEncoder` of the reversed widths.

    For `dlcore.generative.autoencoder.Autoencoder`; gated layers have no transposes.

    >>> mirrored_ties(2)
    {'dense_0/kernel': 'dense_1/kernel', 'dense_1/kernel': 'dense_0/kernel'}
    """
    return {f"dense_{i}/kernel": f"dense_{layers - 1 - i}/kernel" for i in range(layers)}


def ConvEncoder(
    channels: Sequence[int],
    outputs: int,
    *,
    hidden: int = 256,
    activation: str = "silu",
    code: str = "linear",
    keep: int = 0,
) -> Model:
    """Image to `outputs` numbers: a 3×3 convolution with stride 2 per entry of `channels`, then two dense layers.

    `code` and `keep` are those of `MLPEncoder`.
    """
    layers: list[Model] = []
    for features in channels:
        layers += [Conv(features, 3, stride=2), Activation(activation)]
    return serial(*layers, Flatten(), Dense(hidden), Activation(activation), *_code(outputs, code, keep))


def ConvDecoder(channels: Sequence[int], shape: Sequence[int], *, hidden: int = 256, activation: str = "silu") -> Model:
    """Code to an image of `shape` [h, w, c]: dense layers, then 3×3 convolutions that double the sides by sub-pixels.

    `channels` are those of the resolutions from the smallest on. Raises `ValueError` for sides that do not halve so
    often.
    """
    factor, (height, width, outputs) = 2 ** len(channels), shape
    if height % factor or width % factor:
        raise ValueError(f"ConvDecoder: {height}×{width} cannot be halved {len(channels)} times; use fewer channels")
    start = (height // factor, width // factor, channels[0])
    layers = [Dense(hidden), Activation(activation), Dense(math.prod(start)), Activation(activation), Reshape(start)]
    for features in (*channels[1:], channels[-1]):
        layers += [Conv(4 * features, 3), DepthToSpace(2), Activation(activation)]
    return serial(*layers, Conv(outputs, 3))
