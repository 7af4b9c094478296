"""Residual networks, for ImageNet and for CIFAR, with the activation behind or before the convolutions (lecture 16).

`ResNet(imagenet_config(50))` has the params of PyTorch's definition, with the stride in the 3×3 convolution;
`ResNet(cifar_config(20))` is the small one of He et al. 2016, 4.2. With `padding="flax"` it is the network of Flax's
ImageNet example, whose weights `dlcore.interop.flax_weights` reads.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.networks._stem import ConvStem, around, check_padding, check_stem
from dlcore.nn import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Function,
    GlobalAvgPool,
    Stage,
    residual,
    serial,
    starting_at,
)
from dlcore.nn.init import he_normal_fan_out, zeros
from dlcore.setting import Number, known
from dlcore.types import Model

IMAGENET = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""Layers: (block, blocks per stage); He et al. 2016, table 1."""

EXPANSION = 4
"""How many times wider a bottleneck block is outside than inside."""


@dataclass(frozen=True)
class ResNetConfig:
    """All that defines a residual network."""

    block: str = "basic"
    """"basic": two 3×3 convolutions; "bottleneck": 1×1, 3×3 (which carries the stride) and 1×1."""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """Blocks of each stage; every stage but the first halves height and width."""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    classes: int = 1000
    stem: str = "imagenet"
    """"imagenet" or "small", see `dlcore.networks.ConvStem`."""
    padding: str = "half"
    """"half" (PyTorch), "same" (TensorFlow) or "flax", see `dlcore.networks.ConvStem`."""
    shortcut: str = "B"
    """Where the shape changes: "A" drops pixels and adds zero channels, "B" is a 1×1 convolution, with batch norm
    unless that comes before."""
    preactivation: bool = False
    """Norm and ReLU before each convolution rather than behind it (He et al. 2016b)."""
    zero_last: bool = False
    """Start the scale of each block's last norm at 0, so that blocks start as the identity; not with preactivation."""
    dropout: Number = 0.0
    """Rate before the last layer."""
    scan: bool = False
    """Compile the equal blocks of a stage once: for GPU and TPU, where deep networks compile for long."""

    def __post_init__(self) -> None:
        check_stem(self.stem)
        check_padding(self.padding)
        if self.block not in ("basic", "bottleneck") or self.shortcut not in ("A", "B"):
            raise ValueError(
                f"block must be basic or bottleneck and shortcut A or B, got {self.block!r} and {self.shortcut!r}"
            )
        if len(self.blocks) != len(self.widths):
            raise ValueError(f"blocks {self.blocks} and widths {self.widths} must be as many as there are stages")
        if self.zero_last and self.preactivation:
            raise ValueError("zero_last needs preactivation=False: a pre-activation block ends in a convolution")


def imagenet_config(layers: int, **changes: object) -> ResNetConfig:
    """ResNet-18, 34, 50, 101 or 152, with fields changed by name. Raises `ValueError` for another depth."""
    if layers not in IMAGENET:
        raise ValueError(f"imagenet_config: layers must be one of {', '.join(map(str, IMAGENET))}, got {layers}")
    block, blocks = IMAGENET[layers]
    return ResNetConfig(**{"block": block, "blocks": blocks, **changes})


def cifar_config(layers: int, **changes: object) -> ResNetConfig:
    """ResNet-20, 32, 44, 56, 110, ...: three stages of (layers − 2)/6 basic blocks, shortcut A, ten classes.

    Raises `ValueError` unless `layers` is 6n + 2.
    """
    if layers < 8 or layers % 6 != 2:
        raise ValueError(f"cifar_config: layers must be 6n + 2, such as 20, 32, 44, 56 or 110, got {layers}")
    fields = {"blocks": (layers // 6,) * 3, "widths": (16, 32, 64), "classes": 10, "stem": "small", "shortcut": "A"}
    return ResNetConfig(**{**fields, **changes})


def ResNet(config: ResNetConfig) -> Model:
    """Stem, stages of residual blocks, global average and dense layer: images [b, h, w, c] to logits [b, classes]."""
    out = {"basic": 1, "bottleneck": EXPANSION}[config.block]
    parts = {"stem": ConvStem(config.widths[0], config.stem, norm=not config.preactivation, padding=config.padding)}
    inputs = config.widths[0]
    for i, (width, count) in enumerate(zip(config.widths, config.blocks, strict=True)):
        block = Block(config, width, width * out, first=True, inputs=inputs, stride=1 if i == 0 else 2)
        parts[f"stage_{i + 1}"] = Stage(block, Block(config, width, width * out), count, scan=config.scan)
        inputs = width * out
    if config.preactivation:
        parts |= {"norm": BatchNorm(), "relu": Activation("relu")}
    parts |= {"pool": GlobalAvgPool(), **({"dropout": Dropout(config.dropout)} if known(config.dropout) != 0 else {})}
    return serial(**parts, head=Dense(config.classes))


def Block(
    config: ResNetConfig, width: int, outputs: int, *, first: bool = False, inputs: int = 0, stride: int = 1
) -> Model:
    """A residual block of `outputs` channels; a `first` one may have other `inputs` and a `stride`."""
    side = _shortcut(config, outputs, stride) if first and (stride > 1 or inputs != outputs) else None
    if not config.preactivation:
        return serial(add=residual(_body(config, width, outputs, stride), side), relu=Activation("relu"))
    if not first:
        return serial(add=residual(_body(config, width, outputs, 1)))
    # A stage's first block activates its input for both ways, as the projection wants it (He et al. 2016b, appendix).
    body = _body(config, width, outputs, stride, skip=True)
    return serial(norm_1=BatchNorm(), relu_1=Activation("relu"), add=residual(body, side))


def _body(config: ResNetConfig, width: int, outputs: int, stride: int, *, skip: bool = False) -> Model:
    basic = config.block == "basic"
    layers = [(outputs, 3, stride), (outputs, 3, 1)] if basic else [(width, 1, 1), (width, 3, stride), (outputs, 1, 1)]
    parts: dict[str, Model] = {}
    for i, (features, window, step) in enumerate(layers, start=1):
        last = i == len(layers)
        conv = _conv(config, features, window, step)
        norm = starting_at(BatchNorm(), scale=zeros) if last and config.zero_last else BatchNorm()
        relu = {f"relu_{i}": Activation("relu")}
        if config.preactivation:
            before = {} if skip and i == 1 else {f"norm_{i}": norm} | relu
            parts |= before | {f"conv_{i}": conv}
        else:
            parts |= {f"conv_{i}": conv, f"norm_{i}": norm} | ({} if last else relu)
    return serial(**parts)


def _conv(config: ResNetConfig, features: int, window: int, stride: int) -> Model:
    options = {"padding": around(window, config.padding), "bias": False, "kernel_init": he_normal_fan_out}
    return Conv(features, window, stride=stride, **options)


def _shortcut(config: ResNetConfig, outputs: int, stride: int) -> Model:
    if config.shortcut == "A":
        return Function(lambda x: subsample(x, outputs, stride), "subsample")
    norm = {} if config.preactivation else {"norm": BatchNorm()}
    return serial(conv=_conv(config, outputs, 1, stride), **norm)


def subsample(x: Float[Array, "b h w c"], channels: int, stride: int) -> Float[Array, "b hs ws cs"]:
    """Every `stride`-th pixel, with channels of zeros added at the end. Raises `ValueError` for fewer channels."""
    if channels < x.shape[-1]:
        raise ValueError(f"subsample: {x.shape[-1]} channels cannot become {channels}; use shortcut B")
    return jnp.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [(0, channels - x.shape[-1])])
