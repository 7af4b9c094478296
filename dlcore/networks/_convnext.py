"""ConvNeXt: a convolutional network with the proportions of a transformer (lecture 16; Liu et al. 2022)."""

from dataclasses import dataclass

from dlcore.networks._stem import check_stem
from dlcore.nn import (
    Activation,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    LayerNorm,
    LayerScale,
    Stage,
    StochasticDepth,
    linear_rates,
    residual,
    serial,
)
from dlcore.nn.init import normal
from dlcore.setting import Number, known
from dlcore.types import Model

START = normal(0.02)


@dataclass(frozen=True)
class ConvNeXtConfig:
    """All that defines a ConvNeXt; the defaults are those of ConvNeXt-T."""

    blocks: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    classes: int = 1000
    stem: str = "imagenet"
    """Patches of 4×4 pixels ("imagenet") or of 2×2 ("small")."""
    layer_scale: float = 1e-6
    """Start of the factors at the end of each block."""
    stochastic_depth: Number = 0.1
    """Rate at which the last block is dropped in training; it grows linearly from 0."""
    dropout: Number = 0.0
    """Rate before the last layer."""
    scan: bool = False
    """Compile the blocks of a stage once: for GPU and TPU. Needs stochastic_depth=0, as blocks must be alike."""

    def __post_init__(self) -> None:
        check_stem(self.stem)
        if len(self.blocks) != len(self.widths):
            raise ValueError(f"blocks {self.blocks} and widths {self.widths} must be as many as there are stages")
        if self.scan and known(self.stochastic_depth) != 0:
            raise ValueError("scan=True needs stochastic_depth=0: the rate differs from block to block")


def ConvNeXt(config: ConvNeXtConfig) -> Model:
    """Images [b, h, w, c] to logits [b, classes]. Layer norms have ε = 10⁻⁶; kernels start as N(0, 0.02²)."""
    patch, rates = 2 if config.stem == "small" else 4, iter(linear_rates(config.stochastic_depth, sum(config.blocks)))
    parts = {"stem": serial(conv=_cut(config.widths[0], patch), norm=LayerNorm(epsilon=1e-6))}
    for i, (width, count) in enumerate(zip(config.widths, config.blocks, strict=True), start=1):
        if i > 1:
            parts[f"downsample_{i - 1}"] = serial(norm=LayerNorm(epsilon=1e-6), conv=_cut(width, 2))
        blocks = [Block(width, config.layer_scale, next(rates)) for _ in range(count)]
        parts[f"stage_{i}"] = (
            Stage(blocks[0], blocks[0], count, scan=True)
            if config.scan
            else serial(**{f"block_{j}": block for j, block in enumerate(blocks)})
        )
    parts |= {"pool": GlobalAvgPool(), "norm": LayerNorm(epsilon=1e-6)}
    parts |= {"dropout": Dropout(config.dropout)} if known(config.dropout) != 0 else {}
    return serial(**parts, head=Dense(config.classes, kernel_init=START))


def Block(width: int, scale: float, rate: Number) -> Model:
    """x + γ ⊙ W₂ gelu(W₁ norm(depthwise 7×7 of x)), with four times as many channels inside, dropped at `rate`."""
    return residual(
        serial(
            depthwise=Conv(width, 7, padding=3, groups=width, kernel_init=START),
            norm=LayerNorm(epsilon=1e-6),
            expand=Dense(4 * width, kernel_init=START),
            gelu=Activation("gelu"),
            project=Dense(width, kernel_init=START),
            scale=LayerScale(scale),
            **({"depth": StochasticDepth(rate)} if known(rate) != 0 else {}),
        )
    )


def _cut(features: int, patch: int) -> Model:
    return Conv(features, patch, stride=patch, padding="valid", kernel_init=START)
