"""Encoders and decoders of images (lecture 19, 21, 24)."""

import math
from collections.abc import Sequence

from dlcore.nn import GLU, Activation, Conv, Dense, DepthToSpace, Flatten, KeepLargest, Reshape, residual, serial
from dlcore.nn.init import zeros
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


def _body(widths: Sequence[int], activation: str) -> list[Model]:
    """A residual block h + conv(φ(conv(φ(h)))) per width, the last kernel starting at 0."""
    if not widths:
        raise ValueError("a map of codes needs the channels of at least one block; give widths such as 64,64")
    layers: list[Model] = []
    for before, features in zip((widths[0], *widths), widths, strict=False):
        act, last = Activation(activation), Conv(features, 3, kernel_init=zeros)
        layers += [] if before == features else [Conv(features, 1)]
        layers.append(residual(serial(act, Conv(features, 3), act, last)))
    return [*layers, Activation(activation)]


def MapEncoder(
    widths: Sequence[int], channels: int, *, patch: int = 4, activation: str = "silu", code: str = "linear"
) -> Model:
    """Image [b, h, w, c] to a map of codes, `channels` at each place, flat [b, h/patch · w/patch · channels].

    `patch` pixels each way make a place. Nothing is dense: a residual block per entry of `widths` mixes places, so that
    details keep theirs. The code is over-complete where it has more channels than a patch has pixels.
    """
    body, last = _body(widths, activation), [] if code == "linear" else [Activation(code)]
    return serial(Conv(widths[0], patch, stride=patch), *body, Conv(channels, 1), *last, Flatten())


def MapDecoder(
    widths: Sequence[int], channels: int, shape: Sequence[int], *, patch: int = 4, activation: str = "silu"
) -> Model:
    """The flat code of a `MapEncoder` of so many channels to an image of `shape` [h, w, c].

    Raises `ValueError` for sides that patches do not divide.
    """
    height, width, outputs = shape
    if height % patch or width % patch:
        raise ValueError(f"MapDecoder: {height}×{width} cannot be cut into patches of {patch}; use another patch")
    body, places = _body(widths, activation), Reshape((height // patch, width // patch, channels))
    return serial(places, Conv(widths[0], 1), *body, Conv(outputs * patch**2, 3), DepthToSpace(patch))
