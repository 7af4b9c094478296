"""How the published image networks begin, and how they begin on small images (lecture 16)."""

from dlcore.nn import Activation, BatchNorm, Conv, MaxPool, Padding, serial
from dlcore.nn.init import Initializer, he_normal_fan_out
from dlcore.types import Model

STEMS = ("imagenet", "small")
"""Made for images of 224 pixels, or for those of 28 or 32, whose size it keeps or halves."""


PADDINGS = ("half", "same", "flax")
"""Half a window on both sides, as in PyTorch; "same" of `dlcore.nn.pad_widths`, as in TensorFlow; or "same" but in
the stem's convolution, as in Flax's ImageNet example. They differ where an even size is halved."""


def check_padding(padding: str) -> None:
    """Raises `ValueError` unless `padding` is one of `PADDINGS`."""
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {padding!r}")


def around(window: int, padding: str) -> Padding:
    """What to add for a window inside a network of this padding: half the window, or "same"."""
    return window // 2 if padding == "half" else "same"


def check_stem(stem: str) -> None:
    """Raises `ValueError` unless `stem` is one of `STEMS`."""
    if stem not in STEMS:
        raise ValueError(f"stem must be one of {', '.join(STEMS)}, got {stem!r}")


def ConvStem(
    features: int,
    stem: str,
    *,
    kernel_init: Initializer = he_normal_fan_out,
    norm: bool = True,
    padding: str = "half",
) -> Model:
    """A 7×7 convolution of stride 2 and 3×3 max pooling of stride 2 (He et al. 2016), or one 3×3 convolution.

    Batch norm and ReLU follow the convolution unless `norm` is False. `padding` is one of `PADDINGS`.
    """
    window, stride = (3, 1) if stem == "small" else (7, 2)
    sides = around(window, "same" if padding == "same" else "half")
    conv = Conv(features, window, stride=stride, padding=sides, bias=False, kernel_init=kernel_init)
    parts = {"conv": conv} | ({"norm": BatchNorm(), "relu": Activation("relu")} if norm else {})
    pool = MaxPool(3, stride=2, padding=around(3, padding))
    return serial(**parts, **({} if stem == "small" else {"pool": pool}))
