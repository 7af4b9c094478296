"""AlexNet in one tower (lecture 16; Krizhevsky 2014, without its local response normalisation)."""

from dataclasses import dataclass

from dlcore.networks._stem import check_stem
from dlcore.nn import Activation, AdaptiveAvgPool, Conv, Dense, Dropout, Flatten, MaxPool, serial
from dlcore.nn.init import he_normal, normal
from dlcore.setting import Number, known
from dlcore.types import Model

POOLED = (1, 2, 5)
"""The convolutions that pooling follows."""


@dataclass(frozen=True)
class AlexNetConfig:
    """All that defines an AlexNet."""

    channels: tuple[int, ...] = (64, 192, 384, 256, 256)
    hidden: tuple[int, ...] = (4096, 4096)
    classes: int = 1000
    stem: str = "imagenet"
    """"imagenet": 11×11 at stride 4 and overlapping pooling down to 6×6; "small": 3×3 at stride 1 and 2×2 pooling."""
    dropout: Number = 0.5
    """Rate before each hidden layer."""

    def __post_init__(self) -> None:
        check_stem(self.stem)
        if len(self.channels) != 5:
            raise ValueError(f"channels must be five numbers, got {self.channels}")


def AlexNet(config: AlexNetConfig) -> Model:
    """Images [b, h, w, c] to logits [b, classes]; any size is pooled to 6×6 by the ImageNet stem.

    Weights start as He et al. 2015 have it: the paper's N(0, 0.01²) lets the signal die without its biases of 1.
    """
    small = config.stem == "small"
    features: dict[str, Model] = {}
    windows = [{"window": 3 if small else 11, "stride": 1 if small else 4, "padding": 1 if small else 2}]
    windows += [{"window": 5, "padding": 2}] + 3 * [{"window": 3, "padding": 1}]
    for i, (channels, options) in enumerate(zip(config.channels, windows, strict=True), start=1):
        features |= {f"conv_{i}": Conv(channels, **options, kernel_init=he_normal), f"relu_{i}": Activation("relu")}
        if i in POOLED:
            features[f"pool_{i}"] = MaxPool(2) if small else MaxPool(3, stride=2)
    grid = {} if small else {"grid": AdaptiveAvgPool(6)}
    head = DenseHead(config.hidden, config.classes, config.dropout, dropout_first=True)
    return serial(features=serial(**features), **grid, head=head)


def DenseHead(hidden: tuple[int, ...], classes: int, dropout: Number, *, dropout_first: bool) -> Model:
    """Flatten, hidden layers with ReLU and dropout before (`dropout_first`) or behind each, and logits."""
    parts: dict[str, Model] = {"flatten": Flatten()}
    for i, features in enumerate(hidden, start=1):
        drop = {f"dropout_{i}": Dropout(dropout)} if known(dropout) != 0 else {}
        layer = {f"hidden_{i}": Dense(features, kernel_init=he_normal), f"relu_{i}": Activation("relu")}
        parts |= drop | layer if dropout_first else layer | drop
    return serial(**parts, logits=Dense(classes, kernel_init=normal(0.01)))
