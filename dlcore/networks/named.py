"""Architectures by their published names (lecture 16)."""

import difflib
from collections.abc import Callable, Sequence

from dlcore.networks.alexnet import AlexNet, AlexNetConfig
from dlcore.networks.convnext import ConvNeXt, ConvNeXtConfig
from dlcore.networks.densenet import DenseNet, densenet_config
from dlcore.networks.googlenet import GoogLeNet, GoogLeNetConfig
from dlcore.networks.lenet import LeNet, LeNetConfig
from dlcore.networks.mobilenet import MobileNet, MobileNetConfig
from dlcore.networks.resnet import ResNet, cifar_config, imagenet_config
from dlcore.networks.vgg import VGG, vgg_config
from dlcore.types import Model

SMALL = 64
"""Images below this side get the stem for small images, which halves them less."""

NETWORKS: dict[str, Callable[[int, str], Model]] = {
    "lenet": lambda classes, stem: LeNet(LeNetConfig(classes=classes)),
    "alexnet": lambda classes, stem: AlexNet(AlexNetConfig(classes=classes, stem=stem)),
    "googlenet": lambda classes, stem: GoogLeNet(GoogLeNetConfig(classes=classes, stem=stem)),
    "mobilenet_v2": lambda classes, stem: MobileNet(MobileNetConfig(classes=classes, stem=stem)),
    "convnext_tiny": lambda classes, stem: ConvNeXt(ConvNeXtConfig(classes=classes, stem=stem)),
}
"""name: (classes, stem) to the network."""

for _depth in (11, 13, 16, 19):
    NETWORKS[f"vgg{_depth}"] = lambda c, s, n=_depth: VGG(vgg_config(n, classes=c, stem=s))
    NETWORKS[f"vgg{_depth}_bn"] = lambda c, s, n=_depth: VGG(
        vgg_config(n, classes=c, stem=s, batch_norm=True, bias=False)
    )
for _depth in (18, 34, 50, 101, 152):
    NETWORKS[f"resnet{_depth}"] = lambda c, s, n=_depth: ResNet(imagenet_config(n, classes=c, stem=s))
for _depth in (20, 32, 44, 56, 110):
    NETWORKS[f"cifar_resnet{_depth}"] = lambda c, s, n=_depth: ResNet(cifar_config(n, classes=c))
    NETWORKS[f"cifar_resnet{_depth}_preactivation"] = lambda c, s, n=_depth: ResNet(
        cifar_config(n, classes=c, preactivation=True)
    )
    NETWORKS[f"cifar_resnet{_depth}_preactivation"] = lambda c, s, n=_depth: ResNet(
        cifar_config(n, classes=c, preactivation=True)
    )
for _depth in (121, 161, 169, 201):
    NETWORKS[f"densenet{_depth}"] = lambda c, s, n=_depth: DenseNet(densenet_config(n, classes=c, stem=s))


def network(name: str, classes: int, pixels: int, *, others: Sequence[str] = ()) -> Model:
    """Images [b, pixels, pixels, c] to logits [b, classes], with the stem that suits their size.

    Raises `ValueError` for a name that is not in `NETWORKS`, with the nearest of them and of the caller's `others`.
    """
    if name not in NETWORKS:
        known = [*others, *sorted(NETWORKS)]
        near = difflib.get_close_matches(name, known, 1, 0.0)[0]
        raise ValueError(f"model must be one of {', '.join(known)}, got {name!r}; did you mean {near!r}?")
    return NETWORKS[name](classes, "small" if pixels < SMALL else "imagenet")
