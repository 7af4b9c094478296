"""VGG networks with and without batch norm (lecture 16; Simonyan & Zisserman 2015)."""

from dataclasses import dataclass

from dlcore.networks._alexnet import DenseHead
from dlcore.networks._stem import check_stem
from dlcore.nn import Activation, AdaptiveAvgPool, BatchNorm, Conv, MaxPool, serial
from dlcore.nn.init import he_normal_fan_out
from dlcore.setting import Number
from dlcore.types import Model

DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Layers: convolutions per stage; Simonyan & Zisserman 2015, table 1 (A, B, D, E)."""


@dataclass(frozen=True)
class VGGConfig:
    """All that defines a VGG network."""

    convolutions: tuple[int, ...] = (2, 2, 3, 3, 3)
    """3×3 convolutions of each stage; 2×2 max pooling follows each stage."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    classes: int = 1000
    batch_norm: bool = False
    bias: bool = True
    """Biases of the convolutions. The published networks have them before batch norm too, where their gradient is 0 and
    an adaptive optimiser makes them drift: leave them out unless you import weights."""
    stem: str = "imagenet"
    """"imagenet": a 7×7 grid and two hidden layers; "small": no pooling behind the last stage but the average over
    positions, and no hidden layer."""
    hidden: tuple[int, ...] = (4096, 4096)
    """Hidden layers of the ImageNet head."""
    dropout: Number = 0.5

    def __post_init__(self) -> None:
        check_stem(self.stem)
        if len(self.convolutions) != len(self.widths):
            raise ValueError(
                f"convolutions {self.convolutions} and widths {self.widths} must be as many as there are stages"
            )
        if not self.bias and not self.batch_norm:
            raise ValueError("bias=False needs batch_norm=True, whose own bias takes its place")


def vgg_config(layers: int, **changes: object) -> VGGConfig:
    """VGG-11, 13, 16 or 19, with fields changed by name. Raises `ValueError` for another depth."""
    if layers not in DEPTHS:
        raise ValueError(f"vgg_config: layers must be one of {', '.join(map(str, DEPTHS))}, got {layers}")
    return VGGConfig(**{"convolutions": DEPTHS[layers], **changes})


def VGG(config: VGGConfig) -> Model:
    """Images [b, h, w, c] of at least 32 pixels, or 16 with the small stem, to logits [b, classes]."""
    small = config.stem == "small"
    stages = {
        f"stage_{i}": _stage(config, width, count, pooled=not small or i < len(config.widths))
        for i, (width, count) in enumerate(zip(config.widths, config.convolutions, strict=True), start=1)
    }
    head = DenseHead(() if small else config.hidden, config.classes, config.dropout, dropout_first=False)
    return serial(features=serial(**stages), grid=AdaptiveAvgPool(1 if small else 7), head=head)


def _stage(config: VGGConfig, width: int, count: int, *, pooled: bool) -> Model:
    parts: dict[str, Model] = {}
    for i in range(1, count + 1):
        parts[f"conv_{i}"] = Conv(width, 3, padding=1, bias=config.bias, kernel_init=he_normal_fan_out)
        if config.batch_norm:
            parts[f"norm_{i}"] = BatchNorm()
        parts[f"relu_{i}"] = Activation("relu")
    return serial(**parts, **({"pool": MaxPool(2)} if pooled else {}))
