"""One table of convolutional architectures: the published ones with their parameter counts, and tiny ones to run."""

from typing import NamedTuple

from dlcore.interop import _torch_names as torch_names
from dlcore.interop._torch_names import Names
from dlcore.networks import (
    VGG,
    AlexNet,
    AlexNetConfig,
    ConvNeXt,
    ConvNeXtConfig,
    DenseNet,
    DenseNetConfig,
    GoogLeNet,
    GoogLeNetConfig,
    LeNet,
    LeNetConfig,
    MobileNet,
    MobileNetConfig,
    ResNet,
    ResNetConfig,
    VGGConfig,
    cifar_config,
    densenet_config,
    imagenet_config,
    vgg_config,
)
from dlcore.types import Model


class Published(NamedTuple):
    """A network, its number of params, the side and channels of its images, its classes, its PyTorch names."""

    model: Model
    parameters: int
    pixels: int
    channels: int
    classes: int
    names: Names


class Tiny(NamedTuple):
    """A small network on `pixels` × `pixels` × 3 with three classes; stochastic if it needs a key to train."""

    model: Model
    pixels: int
    names: Names
    stochastic: bool = False


def _imagenet(model: Model, parameters: int, names: Names) -> Published:
    return Published(model, parameters, 224, 3, 1000, names)


VGGS = {11: 132_863_336, 13: 133_047_848, 16: 138_357_544, 19: 143_667_240}
VGG_BNS = {11: 132_868_840, 13: 133_053_736, 16: 138_365_992, 19: 143_678_248}
RESNETS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
DENSENETS = {121: 7_978_856, 161: 28_681_000, 169: 14_149_480, 201: 20_013_928}
CIFAR_RESNETS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}

ARCHITECTURES = {
    "lenet": Published(LeNet(LeNetConfig()), 61_706, 28, 1, 10, torch_names.lenet),
    "alexnet": _imagenet(AlexNet(AlexNetConfig()), 61_100_840, torch_names.alexnet),
    **{f"vgg{n}": _imagenet(VGG(vgg_config(n)), count, torch_names.vgg) for n, count in VGGS.items()},
    **{
        f"vgg{n}_bn": _imagenet(VGG(vgg_config(n, batch_norm=True)), count, torch_names.vgg)
        for n, count in VGG_BNS.items()
    },
    "googlenet": _imagenet(GoogLeNet(GoogLeNetConfig()), 6_624_904, torch_names.googlenet),
    "googlenet_auxiliary": _imagenet(GoogLeNet(GoogLeNetConfig(auxiliary=True)), 13_004_888, torch_names.googlenet),
    **{f"resnet{n}": _imagenet(ResNet(imagenet_config(n)), count, torch_names.resnet) for n, count in RESNETS.items()},
    **{
        f"densenet{n}": _imagenet(DenseNet(densenet_config(n)), count, torch_names.densenet)
        for n, count in DENSENETS.items()
    },
    "mobilenet_v2": _imagenet(MobileNet(MobileNetConfig()), 3_504_872, torch_names.mobilenet),
    "convnext_tiny": _imagenet(ConvNeXt(ConvNeXtConfig()), 28_589_128, torch_names.convnext),
    **{
        f"cifar_resnet{n}": Published(ResNet(cifar_config(n)), count, 32, 3, 10, torch_names.resnet)
        for n, count in CIFAR_RESNETS.items()
    },
    # The norm that the stem lacks, the one behind the last stage and the narrower ones where stages begin balance out.
    **{
        f"cifar_resnet{n}_preactivation": Published(
            ResNet(cifar_config(n, preactivation=True)), count, 32, 3, 10, torch_names.resnet
        )
        for n, count in CIFAR_RESNETS.items()
    },
    "cifar_resnet20_preactivation_b": Published(
        ResNet(cifar_config(20, shortcut="B", preactivation=True)), 272_282, 32, 3, 10, torch_names.resnet
    ),
    "cifar_resnet20_b": Published(ResNet(cifar_config(20, shortcut="B")), 272_474, 32, 3, 10, torch_names.resnet),
}

SMALL = {
    "alexnet": AlexNet(AlexNetConfig(classes=10, stem="small")),
    "vgg11": VGG(vgg_config(11, classes=10, stem="small")),
    "googlenet": GoogLeNet(GoogLeNetConfig(classes=10, stem="small")),
    "resnet18": ResNet(imagenet_config(18, classes=10, stem="small")),
    "cifar_resnet20_preactivation": ResNet(cifar_config(20, preactivation=True)),
    "densenet": DenseNet(DenseNetConfig(layers=(2, 2, 2, 2), classes=10, stem="small")),
    "mobilenet_v2": MobileNet(MobileNetConfig(classes=10, stem="small")),
    "convnext_tiny": ConvNeXt(ConvNeXtConfig(classes=10, stem="small")),
}
"""The same for images of 28 or 32 pixels, with ten classes."""

MODULE = (2, 3, 4, 2, 3, 2)
TINY_RESNET = {"blocks": (2, 3), "widths": (4, 6), "classes": 3, "stem": "small"}
TINY_GOOGLENET = {"stages": ((MODULE,), (MODULE, MODULE), (MODULE,)), "first": (4, 5), "classes": 3, "stem": "small"}
TINY_MOBILENET = {"stages": ((1, 8, 1, 1), (2, 8, 3, 2)), "first": 8, "last": 16, "classes": 3, "stem": "small"}
TINY_CONVNEXT = {"blocks": (1, 2), "widths": (4, 6), "classes": 3, "stem": "small"}
TINY_VGG = {"convolutions": (1, 2), "widths": (4, 6), "classes": 3}

TINY = {
    "lenet": Tiny(LeNet(LeNetConfig((2, 3), (5, 4), classes=3)), 16, torch_names.lenet),
    "alexnet": Tiny(AlexNet(AlexNetConfig((4, 5, 6, 5, 4), (6, 5), 3, "small")), 16, torch_names.alexnet, True),
    "vgg": Tiny(VGG(VGGConfig(**TINY_VGG, hidden=(5, 4))), 8, torch_names.vgg, True),
    "vgg_bn": Tiny(
        VGG(VGGConfig(**TINY_VGG, stem="small", batch_norm=True, bias=False)), 8, torch_names.vgg, stochastic=True
    ),
    "googlenet": Tiny(GoogLeNet(GoogLeNetConfig(**TINY_GOOGLENET, dropout=0.0)), 8, torch_names.googlenet),
    "resnet": Tiny(ResNet(ResNetConfig(**TINY_RESNET)), 8, torch_names.resnet),
    "resnet_bottleneck_scan": Tiny(ResNet(ResNetConfig("bottleneck", **TINY_RESNET, scan=True)), 8, torch_names.resnet),
    "resnet_preactivation": Tiny(
        ResNet(ResNetConfig(**TINY_RESNET, shortcut="A", preactivation=True)), 8, torch_names.resnet
    ),
    "densenet": Tiny(DenseNet(DenseNetConfig(2, 4, (2, 1), 2, 3, "small")), 8, torch_names.densenet),
    "mobilenet": Tiny(MobileNet(MobileNetConfig(**TINY_MOBILENET)), 8, torch_names.mobilenet, stochastic=True),
    "mobilenet_scan": Tiny(
        MobileNet(MobileNetConfig(**TINY_MOBILENET, dropout=0.0, scan=True)), 8, torch_names.mobilenet
    ),
    "convnext": Tiny(ConvNeXt(ConvNeXtConfig(**TINY_CONVNEXT)), 8, torch_names.convnext, stochastic=True),
    "convnext_scan": Tiny(
        ConvNeXt(ConvNeXtConfig(**TINY_CONVNEXT, stochastic_depth=0.0, scan=True)), 8, torch_names.convnext
    ),
}
