"""A small convolutional network for small images (lecture 14–16)."""

from collections.abc import Sequence

from dlcore.nn import Activation, AvgPool, BatchNorm, Conv, Dense, Dropout, Flatten, GlobalAvgPool, MaxPool, serial
from dlcore.nn.init import he_normal
from dlcore.setting import Number, known
from dlcore.types import Model


def CNN(
    channels: Sequence[int],
    outputs: int,
    *,
    hidden: int = 0,
    dropout: Number = 0.0,
    activation: str = "relu",
    pool: str = "max",
) -> Model:
    """Stages of 3×3 convolution, 2×2 pooling ("max" or "avg"), batch norm and activation.

    Pooling comes first because the rest then has a quarter of the work. The head is a dense layer, on global
    averages, or with `hidden` > 0 on a hidden layer over all positions; without one the last stage is not pooled. The
    convolutions carry no bias: batch norm would take it out again (lecture 15). Raises `ValueError` for another pool.
    """
    if pool not in ("max", "avg"):
        raise ValueError(f"pool must be max or avg, got {pool!r}")
    stages: dict[str, Model] = {}
    for i, features in enumerate(channels):
        conv = Conv(features, 3, bias=False, kernel_init=he_normal)
        halve = [MaxPool(2) if pool == "max" else AvgPool(2)] if hidden or i + 1 < len(channels) else []
        stages[f"stage_{i + 1}"] = serial(conv, *halve, BatchNorm(), Activation(activation))
    head = [Flatten(), Dense(hidden, kernel_init=he_normal), Activation(activation)] if hidden else [GlobalAvgPool()]
    return serial(**stages, head=serial(*head, *([Dropout(dropout)] if known(dropout) != 0 else []), Dense(outputs)))
