"""Architectures by their published names (lecture 16)."""

from collections.abc import Callable, Sequence

from dlcore.lookup import check_name
from dlcore.networks._alexnet import AlexNet, AlexNetConfig
from dlcore.networks._convnext import ConvNeXt, ConvNeXtConfig
from dlcore.networks._densenet import DenseNet, densenet_config
from dlcore.networks._googlenet import GoogLeNet, GoogLeNetConfig
from dlcore.networks._lenet import LeNet, LeNetConfig
from dlcore.networks._mobilenet import MobileNet, MobileNetConfig
from dlcore.networks._resnet import ResNet, cifar_config, imagenet_config
from dlcore.networks._vgg import VGG, vgg_config
from dlcore.types import Model

SMALL = 64
"""Images below this side get the stem for small images, which halves them less."""

SMALLEST = {"vgg": 16, "convnext": 16}
"""Images below this side are halved away by the networks whose names start so."""

CIFAR = (20, 32, 44, 56, 110)
"""Layers of the residual networks made for images of 32 pixels."""

NETWORKS: dict[str, Callable[[int, int], Model]] = {
    # Zeros around smaller images make them the 32 pixels that the paper's net takes.
    "lenet": lambda c, p: LeNet(LeNetConfig(classes=c, pad=max(0, 33 - p) // 2)),
    "alexnet": lambda c, p: AlexNet(AlexNetConfig(classes=c, stem=_stem(p))),
    **{f"vgg{n}": lambda c, p, n=n: VGG(vgg_config(n, classes=c, stem=_stem(p))) for n in (11, 13, 16, 19)},
    **{
        f"vgg{n}_bn": lambda c, p, n=n: VGG(vgg_config(n, classes=c, stem=_stem(p), batch_norm=True, bias=False))
        for n in (11, 13, 16, 19)
    },
    "googlenet": lambda c, p: GoogLeNet(GoogLeNetConfig(classes=c, stem=_stem(p))),
    **{
        f"resnet{n}": lambda c, p, n=n: ResNet(imagenet_config(n, classes=c, stem=_stem(p)))
        for n in (18, 34, 50, 101, 152)
    },
    **{f"cifar_resnet{n}": lambda c, p, n=n: ResNet(cifar_config(n, classes=c)) for n in CIFAR},
    **{
        f"cifar_resnet{n}_preactivation": lambda c, p, n=n: ResNet(cifar_config(n, classes=c, preactivation=True))
        for n in CIFAR
    },
    **{
        f"densenet{n}": lambda c, p, n=n: DenseNet(densenet_config(n, classes=c, stem=_stem(p)))
        for n in (121, 161, 169, 201)
    },
    "mobilenet_v2": lambda c, p: MobileNet(MobileNetConfig(classes=c, stem=_stem(p))),
    "convnext_tiny": lambda c, p: ConvNeXt(ConvNeXtConfig(classes=c, stem=_stem(p))),
}
"""name: (classes, pixels) to the network."""


def network(name: str, classes: int, pixels: int, *, others: Sequence[str] = ()) -> Model:
    """Images [b, pixels, pixels, c] to logits [b, classes], with the stem that suits their size.

    Raises `ValueError` for a name that is not in `NETWORKS`, with the nearest of them and of the caller's `others`,
    and for images that are too small for the network.
    """
    if name not in NETWORKS:
        check_name("model", name, [*others, *sorted(NETWORKS)])
    smallest = next((least for start, least in SMALLEST.items() if name.startswith(start)), 1)
    if pixels < smallest:
        raise ValueError(f"{name} needs images of at least {smallest} pixels, got {pixels}; use cifar_resnet20")
    return NETWORKS[name](classes, pixels)


def _stem(pixels: int) -> str:
    return "small" if pixels < SMALL else "imagenet"
