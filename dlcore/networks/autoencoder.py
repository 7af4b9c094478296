"""Encoders and decoders of images (lecture 19, 24)."""

import math
from collections.abc import Sequence

from dlcore.nn.activation import Activation, glu
from dlcore.nn.combine import serial
from dlcore.nn.dense import Dense
from dlcore.nn.reshape import Flatten, Reshape
from dlcore.types import Model


def _hidden(widths: Sequence[int], activation: str) -> list[Model]:
    """Dense layers with an activation; "gated" ones multiply by a sigmoid gate."""
    layers: list[Model] = []
    for width in widths:
        layers += (
            [Dense(2 * width), Activation(glu)] if activation == "gated" else [Dense(width), Activation(activation)]
        )
    return layers


def MLPEncoder(widths: Sequence[int], outputs: int, *, activation: str = "gated") -> Model:
    """Flattened image to `outputs` numbers; activation "gated" is h = (W x + b) ⊙ σ(V x + c)."""
    return serial(Flatten(), *_hidden(widths, activation), Dense(outputs))


def MLPDecoder(widths: Sequence[int], shape: Sequence[int], *, activation: str = "gated") -> Model:
    """Code to an array of `shape` per example."""
    return serial(*_hidden(widths, activation), Dense(math.prod(shape)), Reshape(shape))
