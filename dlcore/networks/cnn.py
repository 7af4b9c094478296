"""A small convolutional network for small images (lecture 14–16)."""

from collections.abc import Sequence

from dlcore.nn.activation import Activation
from dlcore.nn.combine import serial
from dlcore.nn.conv import Conv
from dlcore.nn.dense import Dense
from dlcore.nn.dropout import Dropout
from dlcore.nn.init import he_normal
from dlcore.nn.norm import BatchNorm
from dlcore.nn.pool import GlobalAvgPool, MaxPool
from dlcore.nn.reshape import Flatten
from dlcore.types import Model


def CNN(channels: Sequence[int], outputs: int, *, hidden: int = 0, dropout: float = 0.0) -> Model:
    """Stages of 3×3 convolution, batch norm and ReLU, halved by 2×2 max-pooling between stages.

    The head is a dense layer, on global averages, or with `hidden` > 0 on a hidden layer over all positions. The
    convolutions carry no bias: batch norm would take it out again (lecture 15).
    """
    stages: dict[str, Model] = {}
    for i, features in enumerate(channels):
        conv = Conv(features, 3, bias=False, kernel_init=he_normal)
        pool = [MaxPool(2)] if hidden or i + 1 < len(channels) else []
        stages[f"stage_{i + 1}"] = serial(conv, *pool, BatchNorm(), Activation("relu"))
    head = [Flatten(), Dense(hidden, kernel_init=he_normal), Activation("relu")] if hidden else [GlobalAvgPool()]
    return serial(**stages, head=serial(*head, *([Dropout(dropout)] if dropout else []), Dense(outputs)))
