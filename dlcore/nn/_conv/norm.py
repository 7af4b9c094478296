"""Convolution, batch norm and activation: the unit that most convolutional networks repeat (lecture 15–16)."""

from collections.abc import Callable

from jaxtyping import Array

from dlcore.nn._activation import Activation
from dlcore.nn._combine import serial
from dlcore.nn._conv import Conv
from dlcore.nn._norm import BatchNorm
from dlcore.nn.init import Initializer, he_normal_fan_out
from dlcore.setting import Size, whole
from dlcore.types import Model


def ConvNorm(
    features: Size,
    window: Size,
    *,
    stride: Size = 1,
    groups: Size = 1,
    activation: str | Callable[[Array], Array] | None = "relu",
    epsilon: float = 1e-5,
    kernel_init: Initializer = he_normal_fan_out,
) -> Model:
    """`conv`, `norm` and, unless it is None, `activation` in series; the convolution has no bias.

    Half a window of zeros is added on both sides, so that a stride of 1 keeps the size of an odd window's input.
    """
    window = whole(window, "ConvNorm: window")
    conv = Conv(
        features, window, stride=stride, padding=window // 2, groups=groups, bias=False, kernel_init=kernel_init
    )
    parts = {"conv": conv, "norm": BatchNorm(epsilon=epsilon)}
    return serial(**parts, **({"activation": Activation(activation)} if activation else {}))._replace(kind="conv_norm")
