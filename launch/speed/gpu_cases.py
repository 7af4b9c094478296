"""The workloads of `--suite=gpu`: at a size that fills a card, and at one by which a CPU tries the suite out."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from dlcore import networks as nets
from dlcore import nn
from launch.speed.networks import Network, classification, diffusion, gan, glow, pixelcnn

TINY_IMAGES = 4
DTYPES = ("bfloat16", "float32")


class Case(NamedTuple):
    """A workload by compute dtype."""

    images: int
    """In the first batch that is tried; larger ones follow."""
    full: Callable[[str], Network]
    tiny: Callable[[str], Network]

    def network(self, dtype: str, tiny: bool) -> Network:
        """The network at either size."""
        return (self.tiny if tiny else self.full)(dtype)

    def first(self, tiny: bool) -> int:
        """Images of the first batch."""
        return TINY_IMAGES if tiny else self.images


def resnet50(dtype: str) -> Network:
    """At 224 pixels, with a thousand classes."""
    return classification((1, 224, 224, 3), nn.in_precision(nets.ResNet(nets.imagenet_config(50)), dtype))


def tiny_resnet(dtype: str) -> Network:
    """Two bottleneck blocks behind the same stem."""
    config = nets.ResNetConfig("bottleneck", (1, 1), (8, 16), classes=10)
    return classification((1, 32, 32, 3), nn.in_precision(nets.ResNet(config), dtype))


def mlp(dtype: str, width: int = 512) -> Network:
    """784-512-512-10."""
    return classification((1, 28, 28, 1), nn.in_precision(nets.MLP((width, width), outputs=10), dtype))


def cnn(dtype: str, side: int = 28) -> Network:
    """Its max-pooling is a reshape, whose gradient adds nothing up in an order of its own."""
    return classification((1, side, side, 1), nn.in_precision(nets.CNN((32, 64), 10, hidden=128), dtype))


CASES: Mapping[str, Case] = {
    "resnet50": Case(256, resnet50, tiny_resnet),
    "diffusion": Case(
        512,
        lambda dtype: diffusion((64, 128, 256), dtype=dtype),
        lambda dtype: diffusion((8, 16, 24), (1, 8, 8, 1), dtype),
    ),
    "mlp": Case(8192, mlp, lambda dtype: mlp(dtype, 16)),
    "cnn": Case(2048, cnn, lambda dtype: cnn(dtype, 8)),
    "gan": Case(1024, gan, gan),
    "pixelcnn": Case(
        256,
        lambda dtype: pixelcnn(dtype=dtype),
        lambda dtype: pixelcnn(8, (7, 3), (1, 6, 6, 1), dtype),
    ),
    "flow": Case(
        512,
        lambda dtype: glow(dtype=dtype),
        lambda dtype: glow(8, 1, (1, 8, 8, 1), dtype),
    ),
}
"""By name, in the order in which they are timed."""
