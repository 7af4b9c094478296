"""LeNet-5 (lecture 16; LeCun et al. 1998), with full connections between its maps."""

from dataclasses import dataclass

from dlcore.nn import Activation, AvgPool, Conv, Dense, Dropout, Flatten, MaxPool, serial
from dlcore.nn.init import lecun_normal
from dlcore.setting import Number, known
from dlcore.types import Model


@dataclass(frozen=True)
class LeNetConfig:
    """All that defines a LeNet."""

    channels: tuple[int, int] = (6, 16)
    hidden: tuple[int, ...] = (120, 84)
    classes: int = 10
    pad: int = 2
    """Zeros around the image: 2 for one of 28 pixels, 0 for one of 32, which is what the paper's net takes."""
    activation: str = "tanh"
    pool: str = "avg"
    """"avg", as in the paper but without its trainable factor, or "max"."""
    dropout: Number = 0.0
    """Rate before each dense layer."""

    def __post_init__(self) -> None:
        if self.pool not in ("avg", "max"):
            raise ValueError(f"pool must be avg or max, got {self.pool!r}")


def LeNet(config: LeNetConfig) -> Model:
    """Images [b, 28, 28, c] to logits [b, classes]: 61,706 params for one colour and ten classes.

    Weights start with variance 1/fan_in, as fits tanh (LeCun et al. 1998b, eq. 16).
    """
    parts: dict[str, Model] = {}
    for i, (features, pad) in enumerate(zip(config.channels, (config.pad, 0), strict=True), start=1):
        parts[f"conv_{i}"] = Conv(features, 5, padding=pad, kernel_init=lecun_normal)
        parts[f"activation_{i}"] = Activation(config.activation)
        parts[f"pool_{i}"] = AvgPool(2) if config.pool == "avg" else MaxPool(2)
    parts["flatten"] = Flatten()
    for i, features in enumerate((*config.hidden, config.classes), start=1):
        if known(config.dropout) != 0:
            parts[f"dropout_{i}"] = Dropout(config.dropout)
        parts[f"dense_{i}"] = Dense(features, kernel_init=lecun_normal)
        if i <= len(config.hidden):
            parts[f"activation_{i + len(config.channels)}"] = Activation(config.activation)
    return serial(**parts)
