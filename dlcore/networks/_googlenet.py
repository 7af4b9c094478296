"""GoogLeNet with batch norm (lecture 16; Szegedy et al. 2015; Ioffe & Szegedy 2015)."""

from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Array

from dlcore.networks._stem import check_stem
from dlcore.nn import (
    Activation,
    AdaptiveAvgPool,
    Call,
    ConvNorm,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    MaxPoolCeil,
    compose,
    concat,
    serial,
)
from dlcore.nn.init import normal
from dlcore.setting import Number, known
from dlcore.types import Model

Channels: TypeAlias = tuple[int, int, int, int, int, int]
"""Of one module: 1×1, before 3×3, 3×3, before the wide one, the wide one, behind pooling."""

STAGES: tuple[tuple[Channels, ...], ...] = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""The modules 3a … 5b; Szegedy et al. 2015, table 1."""

START = normal(0.01)


@dataclass(frozen=True)
class GoogLeNetConfig:
    """All that defines a GoogLeNet."""

    stages: tuple[tuple[Channels, ...], ...] = STAGES
    """Modules of the three stages; the second one needs two at least where there are auxiliary heads."""
    first: tuple[int, int] = (64, 192)
    """Channels of the convolutions before the first module."""
    wide: int = 3
    """Window of the wide branch: 5 in the paper, 3 in PyTorch's definition and its published weights."""
    auxiliary: bool = False
    """Two more heads on the second stage, whose logits are returned too."""
    auxiliary_hidden: int = 1024
    classes: int = 1000
    stem: str = "imagenet"
    """"imagenet": 7×7 at stride 2 and two poolings before the modules; "small": 3×3 at stride 1 and one pooling."""
    dropout: Number = 0.2

    def __post_init__(self) -> None:
        check_stem(self.stem)
        if len(self.stages) != 3 or (self.auxiliary and len(self.stages[1]) < 2):
            raise ValueError("stages must be three, the second with two modules for the auxiliary heads")


def GoogLeNet(config: GoogLeNetConfig) -> Model:
    """Images [b, h, w, c] to logits [b, classes], or to three of them (last, first, second) with auxiliary heads.

    The auxiliary losses count 0.3 each in the paper; what is not used is not computed under jit. Batch norm has
    ε = 10⁻³ throughout.
    """
    small, modules = config.stem == "small", _modules(config)
    stem = {
        "conv_1": _unit(config.first[0], 3 if small else 7, stride=1 if small else 2),
        **({} if small else {"pool_1": MaxPoolCeil(3, 2)}),
        "conv_2": _unit(config.first[0], 1),
        "conv_3": _unit(config.first[1], 3),
        "pool_2": MaxPoolCeil(3, 2),
    }
    pools = {"pool_3": MaxPoolCeil(3, 2), "pool_4": MaxPoolCeil(2, 2)}
    heads = {"auxiliary_1": _auxiliary(config), "auxiliary_2": _auxiliary(config)} if config.auxiliary else {}
    names = [[name for name in modules if name.startswith(f"module_{stage}")] for stage in (3, 4, 5)]
    last = max(1, len(names[1]) - 2)
    taps = {names[1][0]: "auxiliary_1", names[1][last]: "auxiliary_2"} if config.auxiliary else {}
    order = [*names[0], "pool_3", *names[1], "pool_4", *names[2]]

    def forward(call: Call, x: Array) -> Array | tuple[Array, ...]:
        x, others = call("stem", x), []
        for name in order:
            x = call(name, x)
            if name in taps:
                others.append(call(taps[name], x))
        logits = call("head", x)
        return (logits, *others) if config.auxiliary else logits

    dropout = {"dropout": Dropout(config.dropout)} if known(config.dropout) != 0 else {}
    head = serial(pool=GlobalAvgPool(), **dropout, logits=Dense(config.classes, kernel_init=START))
    return compose(forward, stem=serial(**stem), **modules, **pools, **heads, head=head)


def Inception(channels: Channels, wide: int = 3) -> Model:
    """Four branches joined along the channels: 1×1; 1×1 and 3×3; 1×1 and a wide one; 3×3 max pooling and 1×1."""
    one, before, three, before_wide, five, pooled = channels
    return concat(
        branch_1=serial(conv_1=_unit(one, 1)),
        branch_2=serial(conv_1=_unit(before, 1), conv_2=_unit(three, 3)),
        branch_3=serial(conv_1=_unit(before_wide, 1), conv_2=_unit(five, wide)),
        branch_4=serial(pool=MaxPool(3, stride=1, padding=1), conv_1=_unit(pooled, 1)),
    )._replace(kind="inception")


def _modules(config: GoogLeNetConfig) -> dict[str, Model]:
    return {
        f"module_{number}{chr(ord('a') + i)}": Inception(channels, config.wide)
        for number, stage in zip((3, 4, 5), config.stages, strict=True)
        for i, channels in enumerate(stage)
    }


def _auxiliary(config: GoogLeNetConfig) -> Model:
    return serial(
        grid=AdaptiveAvgPool(4),
        conv=_unit(128, 1),
        flatten=Flatten(),
        hidden=Dense(config.auxiliary_hidden, kernel_init=START),
        relu=Activation("relu"),
        dropout=Dropout(0.7),
        logits=Dense(config.classes, kernel_init=START),
    )


def _unit(features: int, window: int, *, stride: int = 1) -> Model:
    return ConvNorm(features, window, stride=stride, epsilon=1e-3, kernel_init=START)
