"""How the published image networks begin, and how they begin on small images (lecture 16)."""

from dlcore.nn.activation import Activation
from dlcore.nn.combine import serial
from dlcore.nn.conv import Conv
from dlcore.nn.init import Initializer, he_normal_fan_out
from dlcore.nn.norm import BatchNorm
from dlcore.nn.pool import MaxPool
from dlcore.types import Model

STEMS = ("imagenet", "small")
"""Made for images of 224 pixels, or for those of 28 or 32, whose size it keeps or halves."""


def check_stem(stem: str) -> None:
    """Raises `ValueError` unless `stem` is one of `STEMS`."""
    if stem not in STEMS:
        raise ValueError(f"stem must be one of {', '.join(STEMS)}, got {stem!r}")


def ConvStem(features: int, stem: str, *, kernel_init: Initializer = he_normal_fan_out, norm: bool = True) -> Model:
    """A 7×7 convolution of stride 2 and 3×3 max pooling of stride 2 (He et al. 2016), or one 3×3 convolution.

    Batch norm and ReLU follow the convolution unless `norm` is False.
    """
    window, stride = (3, 1) if stem == "small" else (7, 2)
    conv = Conv(features, window, stride=stride, padding=window // 2, bias=False, kernel_init=kernel_init)
    parts = {"conv": conv} | ({"norm": BatchNorm(), "relu": Activation("relu")} if norm else {})
    return serial(**parts, **({} if stem == "small" else {"pool": MaxPool(3, stride=2, padding=1)}))
