"""Densely connected networks with bottleneck and compression (lecture 16; Huang et al. 2017)."""

from dataclasses import dataclass

from dlcore.networks._stem import ConvStem, check_stem
from dlcore.nn import Activation, AvgPool, BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, concat, identity, serial
from dlcore.nn.init import he_normal
from dlcore.setting import Number, known
from dlcore.types import Model

DEPTHS = {
    121: (32, 64, (6, 12, 24, 16)),
    161: (48, 96, (6, 12, 36, 24)),
    169: (32, 64, (6, 12, 32, 32)),
    201: (32, 64, (6, 12, 48, 32)),
}
"""Layers: (growth, channels of the stem, layers per block); Huang et al. 2017, table 1."""


@dataclass(frozen=True)
class DenseNetConfig:
    """All that defines a DenseNet. No two layers have the same shape, so there is nothing to scan."""

    growth: int = 32
    """Channels that each layer adds."""
    first: int = 64
    """Channels of the stem."""
    layers: tuple[int, ...] = (6, 12, 24, 16)
    """Layers of each block; a transition between blocks halves channels, height and width."""
    bottleneck: int = 4
    """The 1×1 convolution of a layer has bottleneck · growth channels."""
    classes: int = 1000
    stem: str = "imagenet"
    """"imagenet" or "small", see `dlcore.networks.ConvStem`."""
    dropout: Number = 0.0
    """Rate behind each layer's 3×3 convolution."""

    def __post_init__(self) -> None:
        check_stem(self.stem)


def densenet_config(depth: int, **changes: object) -> DenseNetConfig:
    """DenseNet-121, 161, 169 or 201, with fields changed by name. Raises `ValueError` for another depth."""
    if depth not in DEPTHS:
        raise ValueError(f"densenet_config: depth must be one of {', '.join(map(str, DEPTHS))}, got {depth}")
    growth, first, layers = DEPTHS[depth]
    return DenseNetConfig(**{"growth": growth, "first": first, "layers": layers, **changes})


def DenseNet(config: DenseNetConfig) -> Model:
    """Stem, dense blocks with transitions between, norm, global average, dense: [b, h, w, c] to logits [b, classes]."""
    parts, channels = {"stem": ConvStem(config.first, config.stem, kernel_init=he_normal)}, config.first
    for i, count in enumerate(config.layers, start=1):
        parts[f"block_{i}"] = serial(**{f"layer_{j + 1}": Layer(config) for j in range(count)})
        channels += count * config.growth
        if i < len(config.layers):
            channels //= 2
            parts[f"transition_{i}"] = serial(**_activated("", channels, 1), pool=AvgPool(2))
    parts |= {"norm": BatchNorm(), "relu": Activation("relu"), "pool": GlobalAvgPool()}
    return serial(**parts, head=Dense(config.classes))


def Layer(config: DenseNetConfig) -> Model:
    """x ↦ [x, H(x)], where H is norm, ReLU, 1×1 convolution, norm, ReLU, 3×3 convolution."""
    parts = _activated("_1", config.bottleneck * config.growth, 1) | _activated("_2", config.growth, 3)
    drop = {"dropout": Dropout(config.dropout)} if known(config.dropout) != 0 else {}
    return concat(old=identity(), new=serial(**parts, **drop))


def _activated(suffix: str, features: int, window: int) -> dict[str, Model]:
    conv = Conv(features, window, padding=window // 2, bias=False, kernel_init=he_normal)
    return {f"norm{suffix}": BatchNorm(), f"relu{suffix}": Activation("relu"), f"conv{suffix}": conv}
