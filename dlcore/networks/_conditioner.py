"""Conditioners of flows: networks that keep the shape, end at zero and have no state (lecture 28.1)."""

from collections.abc import Sequence

from dlcore.nn import Activation, Conv, Dense, PositionBias, residual, serial
from dlcore.nn.init import he_normal, zeros
from dlcore.types import Model


def ConvConditioner(width: int, outputs: int, *, blocks: int = 1, activation: str = "relu") -> Model:
    """[b, h, w, c] to [b, h, w, outputs]: a 3×3 stem with a bias per position, residual 3×3 blocks, a 3×3 head at 0.

    Each block is h + conv(φ(h)). The outputs are 0 at the start.
    """
    parts = {"stem": Conv(width, 3, bias=False, kernel_init=he_normal), "position": PositionBias()}
    for i in range(blocks):
        parts[f"block_{i}"] = residual(serial(Activation(activation), Conv(width, 3, kernel_init=he_normal)))
    parts |= {"activation": Activation(activation), "head": Conv(outputs, 3, kernel_init=zeros)}
    return serial(**parts)


def MLPConditioner(widths: Sequence[int], outputs: int, *, activation: str = "relu") -> Model:
    """[b, d] to [b, outputs]: dense layers with an activation, then one that starts at 0."""
    hidden = [layer for width in widths for layer in (Dense(width, kernel_init=he_normal), Activation(activation))]
    return serial(*hidden, Dense(outputs, kernel_init=zeros))
