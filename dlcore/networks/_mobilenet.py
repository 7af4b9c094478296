"""MobileNetV2: inverted residuals with linear bottlenecks (lecture 16; Sandler et al. 2018)."""

from dataclasses import dataclass
from typing import TypeAlias

import jax

from dlcore.networks._stem import check_stem
from dlcore.nn import ConvNorm, Dense, Dropout, GlobalAvgPool, Stage, residual, serial
from dlcore.nn.init import normal
from dlcore.setting import Number, known
from dlcore.types import Model

Row: TypeAlias = tuple[int, int, int, int]
"""Of one stage: expansion factor, channels, blocks, stride of the first block."""

STAGES: tuple[Row, ...] = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Sandler et al. 2018, table 2."""


@dataclass(frozen=True)
class MobileNetConfig:
    """All that defines a MobileNetV2."""

    stages: tuple[Row, ...] = STAGES
    first: int = 32
    last: int = 1280
    """Channels of the first and of the last convolution."""
    width: float = 1.0
    """Factor on all channels, which are then rounded to multiples of 8; the last ones never shrink."""
    classes: int = 1000
    stem: str = "imagenet"
    """"imagenet" halves the image five times; "small" leaves out the first two."""
    dropout: Number = 0.2
    """Rate before the last layer."""
    scan: bool = False
    """Compile the equal blocks of a stage once: for GPU and TPU."""

    def __post_init__(self) -> None:
        check_stem(self.stem)


def MobileNet(config: MobileNetConfig) -> Model:
    """Images [b, h, w, c] to logits [b, classes]; ReLU is cut off at 6, and no activation follows a block's end."""
    channels, small = rounded(config.first * config.width), config.stem == "small"
    halving = [i for i, row in enumerate(config.stages, start=1) if row[3] == 2]
    parts = {"stem": ConvNorm(channels, 3, stride=1 if small else 2, activation=jax.nn.relu6)}
    for i, (expansion, base, count, stride) in enumerate(config.stages, start=1):
        outputs = rounded(base * config.width)
        step = 1 if small and i in halving[:1] else stride
        block = InvertedResidual(channels, outputs, expansion, stride=step)
        parts[f"stage_{i}"] = Stage(block, InvertedResidual(outputs, outputs, expansion), count, scan=config.scan)
        channels = outputs
    parts["last"] = ConvNorm(rounded(config.last * max(config.width, 1.0)), 1, activation=jax.nn.relu6)
    parts |= {"pool": GlobalAvgPool(), **({"dropout": Dropout(config.dropout)} if known(config.dropout) != 0 else {})}
    return serial(**parts, head=Dense(config.classes, kernel_init=normal(0.01)))


def InvertedResidual(inputs: int, outputs: int, expansion: int, *, stride: int = 1) -> Model:
    """1×1 convolution to expansion · inputs channels, depthwise 3×3, linear 1×1; x is added where the shape stays."""
    inner = inputs * expansion
    body = {
        **({} if expansion == 1 else {"expand": ConvNorm(inner, 1, activation=jax.nn.relu6)}),
        "depthwise": ConvNorm(inner, 3, stride=stride, groups=inner, activation=jax.nn.relu6),
        "project": ConvNorm(outputs, 1, activation=None),
    }
    block = residual(serial(**body)) if stride == 1 and inputs == outputs else serial(body=serial(**body))
    return block._replace(kind="inverted_residual")


def rounded(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is at least `divisor` and not more than a tenth below `channels`."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest
