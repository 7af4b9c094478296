"""Multi-layer perceptron (lecture 8.3)."""

from collections.abc import Sequence

from dlcore.nn import Activation, Dense, Dropout, Flatten, serial
from dlcore.nn.init import he_normal
from dlcore.setting import Number, known
from dlcore.types import Model


def MLP(widths: Sequence[int], outputs: int, *, activation: str = "relu", dropout: Number = 0.0) -> Model:
    """y = W_L φ(… φ(W_1 x + b_1) …) + b_L over the flattened input, with dropout behind every φ."""
    layers: list[Model] = [Flatten()]
    for width in widths:
        layers += [Dense(width, kernel_init=he_normal), Activation(activation)]
        layers += [Dropout(dropout)] if known(dropout) != 0 else []
    return serial(*layers, Dense(outputs))
