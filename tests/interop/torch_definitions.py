"""The architectures as PyTorch modules with torchvision's module names, as short as they can be."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        for conv in (self.conv1, self.conv2):
            x = F.avg_pool2d(torch.tanh(conv(x)), 2)
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x.flatten(1))))))


class Features(nn.Module):
    """`features`, a grid of means, `classifier`: AlexNet and VGG."""

    def __init__(self, features, grid, classifier):
        super().__init__()
        self.features, self.classifier = nn.Sequential(*features), nn.Sequential(*classifier)
        self.grid = nn.AdaptiveAvgPool2d(grid)

    def forward(self, x):
        return self.classifier(self.grid(self.features(x)).flatten(1))


def alexnet():
    convs = [(3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)]
    features = []
    for i, conv in enumerate(convs):
        features += [nn.Conv2d(*conv), nn.ReLU()] + ([nn.MaxPool2d(3, 2)] if i in (0, 1, 4) else [])
    head = [nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    return Features(features, 6, [*head, nn.Linear(4096, 1000)])


def vgg(layers, batch_norm):
    depths = {11: (1, 1, 2, 2, 2), 13: (2,) * 5, 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[layers]
    features, inputs = [], 3
    for depth, width in zip(depths, (64, 128, 256, 512, 512), strict=True):
        for _ in range(depth):
            norm = [nn.BatchNorm2d(width)] if batch_norm else []
            features += [nn.Conv2d(inputs, width, 3, padding=1), *norm, nn.ReLU()]
            inputs = width
        features.append(nn.MaxPool2d(2, 2))
    head = [nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()]
    return Features(features, 7, [*head, nn.Linear(4096, 1000)])


class ConvBN(nn.Module):
    def __init__(self, inputs, outputs, window, **options):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, window, bias=False, **options)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, inputs, one, before, three, before_wide, wide, pooled):
        super().__init__()
        self.branch1 = ConvBN(inputs, one, 1)
        self.branch2 = nn.Sequential(ConvBN(inputs, before, 1), ConvBN(before, three, 3, padding=1))
        self.branch3 = nn.Sequential(ConvBN(inputs, before_wide, 1), ConvBN(before_wide, wide, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), ConvBN(inputs, pooled, 1))

    def forward(self, x):
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.conv, self.fc1, self.fc2 = ConvBN(inputs, 128, 1), nn.Linear(2048, 1024), nn.Linear(1024, 1000)

    def forward(self, x):
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(F.relu(self.fc1(x)))


class GoogLeNet(nn.Module):
    """With auxiliary heads, returns the logits (last, first, second)."""

    def __init__(self, auxiliary):
        super().__init__()
        self.conv1 = ConvBN(3, 64, 7, stride=2, padding=3)
        self.conv2, self.conv3 = ConvBN(64, 64, 1), ConvBN(64, 192, 3, padding=1)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        if auxiliary:
            self.aux1, self.aux2 = Auxiliary(512), Auxiliary(528)
        self.auxiliary, self.fc = auxiliary, nn.Linear(1024, 1000)

    def forward(self, x):
        pool = lambda x, window=3: F.max_pool2d(x, window, 2, ceil_mode=True)  # noqa: E731
        x = pool(self.conv3(self.conv2(pool(self.conv1(x)))))
        first = self.inception4a(pool(self.inception3b(self.inception3a(x))))
        second = self.inception4d(self.inception4c(self.inception4b(first)))
        x = self.inception5b(self.inception5a(pool(self.inception4e(second), 2)))
        logits = self.fc(x.mean((2, 3)))
        return (logits, self.aux1(first), self.aux2(second)) if self.auxiliary else logits


class ResBlock(nn.Module):
    """Basic or bottleneck, activated behind or before; `first` blocks of a stage, activated before, share it."""

    def __init__(self, inputs, width, stride, *, bottleneck, shortcut, pre, first):
        super().__init__()
        outputs = 4 * width if bottleneck else width
        basic = [(inputs, width, 3, stride), (width, width, 3, 1)]
        shapes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)] if bottleneck else basic
        for i, (a, b, window, step) in enumerate(shapes, start=1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, window, step, window // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(a if pre else b))
        self.count, self.pre, self.shared, self.stride = len(shapes), pre, pre and first, stride
        self.changes, self.outputs = stride > 1 or inputs != outputs, outputs
        if self.changes and shortcut == "B":
            norm = [] if pre else [nn.BatchNorm2d(outputs)]
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), *norm)

    def around(self, x):
        if not self.changes:
            return x
        if hasattr(self, "downsample"):
            return self.downsample(x)
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.outputs - x.shape[1]))

    def forward(self, x):
        convs = [getattr(self, f"conv{i + 1}") for i in range(self.count)]
        norms = [getattr(self, f"bn{i + 1}") for i in range(self.count)]
        if not self.pre:
            h = x
            for i, (conv, norm) in enumerate(zip(convs, norms, strict=True)):
                h = norm(conv(h))
                h = F.relu(h) if i + 1 < self.count else h
            return F.relu(h + self.around(x))
        active = F.relu(norms[0](x))
        h = convs[0](active)
        for conv, norm in zip(convs[1:], norms[1:], strict=True):
            h = conv(F.relu(norm(h)))
        return h + self.around(active if self.shared else x)


class ResNet(nn.Module):
    def __init__(self, blocks, widths, classes, *, bottleneck=False, small=False, shortcut="B", pre=False):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], *((3, 1, 1) if small else (7, 2, 3)), bias=False)
        if not pre:
            self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for i, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            layer = []
            for j in range(count):
                stride = 2 if i > 1 and j == 0 else 1
                options = {"bottleneck": bottleneck, "shortcut": shortcut, "pre": pre, "first": j == 0}
                layer.append(ResBlock(inputs, width, stride, **options))
                inputs = 4 * width if bottleneck else width
            setattr(self, f"layer{i}", nn.Sequential(*layer))
        if pre:
            self.bn = nn.BatchNorm2d(inputs)
        self.stages, self.small, self.pre, self.fc = len(blocks), small, pre, nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.conv1(x)
        x = x if self.pre else F.relu(self.bn1(x))
        x = x if self.small else F.max_pool2d(x, 3, 2, 1)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        x = F.relu(self.bn(x)) if self.pre else x
        return self.fc(x.mean((2, 3)))


def resnet(layers, **options):
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[layers]
    return ResNet(blocks, (64, 128, 256, 512), 1000, bottleneck=layers >= 50, **options)


def cifar_resnet(layers, **options):
    return ResNet((layers // 6,) * 3, (16, 32, 64), 10, small=True, **{"shortcut": "A", **options})


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat([x, self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))], 1)


class DenseNet(nn.Module):
    def __init__(self, growth, channels, blocks):
        super().__init__()
        self.features = nn.Sequential()
        add = self.features.add_module
        add("conv0", nn.Conv2d(3, channels, 7, 2, 3, bias=False))
        add("norm0", nn.BatchNorm2d(channels))
        add("relu0", nn.ReLU())
        add("pool0", nn.MaxPool2d(3, 2, 1))
        for i, count in enumerate(blocks, start=1):
            block = nn.Sequential()
            for j in range(count):
                block.add_module(f"denselayer{j + 1}", DenseLayer(channels + j * growth, growth))
            add(f"denseblock{i}", block)
            channels += count * growth
            if i < len(blocks):
                transition = nn.Sequential()
                transition.add_module("norm", nn.BatchNorm2d(channels))
                transition.add_module("relu", nn.ReLU())
                transition.add_module("conv", nn.Conv2d(channels, channels // 2, 1, bias=False))
                transition.add_module("pool", nn.AvgPool2d(2, 2))
                add(f"transition{i}", transition)
                channels //= 2
        add("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, 1000)

    def forward(self, x):
        return self.classifier(F.relu(self.features(x)).mean((2, 3)))


def densenet(depth):
    blocks = {121: (6, 12, 24, 16), 161: (6, 12, 36, 24), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}[depth]
    return DenseNet(48, 96, blocks) if depth == 161 else DenseNet(32, 64, blocks)


def unit(inputs, outputs, window, stride=1, groups=1):
    conv = nn.Conv2d(inputs, outputs, window, stride, window // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        inner = inputs * expansion
        expand = [] if expansion == 1 else [unit(inputs, inner, 1)]
        project = [nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*expand, unit(inner, inner, 3, stride, inner), *project)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        rows = [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]
        features, inputs = [unit(3, 32, 3, 2)], 32
        for expansion, outputs, count, stride in rows:
            for i in range(count):
                features.append(InvertedResidual(inputs, outputs, 1 if i else stride, expansion))
                inputs = outputs
        self.features = nn.Sequential(*features, unit(320, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [b, c, h, w]."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            nn.Identity(),
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))

    def forward(self, x):
        h = self.block[1:](self.block[0](x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.layer_scale * h


class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        widths = (96, 192, 384, 768)
        features = [nn.Sequential(nn.Conv2d(3, 96, 4, 4), ChannelNorm(96, eps=1e-6))]
        for i, (count, width) in enumerate(zip((3, 3, 9, 3), widths, strict=True)):
            features.append(nn.Sequential(*(ConvNeXtBlock(width) for _ in range(count))))
            if i < 3:
                down = [ChannelNorm(width, eps=1e-6), nn.Conv2d(width, widths[i + 1], 2, 2)]
                features.append(nn.Sequential(*down))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(ChannelNorm(768, eps=1e-6), nn.Flatten(), nn.Linear(768, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3), keepdim=True))


DEFINITIONS = {
    "lenet": LeNet,
    "alexnet": alexnet,
    **{f"vgg{n}": lambda n=n: vgg(n, False) for n in (11, 13, 16, 19)},
    **{f"vgg{n}_bn": lambda n=n: vgg(n, True) for n in (11, 13, 16, 19)},
    "googlenet": lambda: GoogLeNet(False),
    "googlenet_auxiliary": lambda: GoogLeNet(True),
    **{f"resnet{n}": lambda n=n: resnet(n) for n in (18, 34, 50, 101, 152)},
    **{f"densenet{n}": lambda n=n: densenet(n) for n in (121, 161, 169, 201)},
    "mobilenet_v2": MobileNetV2,
    "convnext_tiny": ConvNeXt,
    **{f"cifar_resnet{n}": lambda n=n: cifar_resnet(n) for n in (20, 32, 44, 56, 110)},
    **{f"cifar_resnet{n}_preactivation": lambda n=n: cifar_resnet(n, pre=True) for n in (20, 32, 44, 56, 110)},
    "cifar_resnet20_preactivation_b": lambda: cifar_resnet(20, shortcut="B", pre=True),
    "cifar_resnet20_b": lambda: cifar_resnet(20, shortcut="B"),
}
"""By the names of the table of networks."""
