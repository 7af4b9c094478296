"""What PyTorch's definitions of the architectures call the modules that dlcore addresses by path (lecture 16, 18).

Each function takes the module paths of a network of `dlcore.networks` (params and state, stages not stacked) and gives
each one its place. LeNet's names are those of PyTorch's tutorials, pre-activation ResNets' follow the others'; all else
is torchvision's. Each raises `ValueError` for a path that the architecture does not have.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, TypeAlias


class Place(NamedTuple):
    """A PyTorch module, and for a dense layer behind a flattened image the path of the convolution it came from.

    PyTorch flattens channels first, dlcore channels last.
    """

    module: str
    flattened: str = ""


Names: TypeAlias = Callable[[Collection[str]], dict[str, Place]]
"""Module paths to their places."""

Rules: TypeAlias = Sequence[tuple[str, str | Callable[[re.Match], str]]]


def by_rules(paths: Collection[str], rules: Rules) -> dict[str, Place]:
    """The place that the first pattern matching the whole path gives it."""
    return {path: Place(_renamed(path, rules)) for path in paths}


def _renamed(path: str, rules: Rules) -> str:
    for pattern, place in rules:
        if match := re.fullmatch(pattern, path):
            return match.expand(place) if isinstance(place, str) else place(match)
    raise ValueError(_unknown(path))


def _unknown(path: str) -> str:
    return f"no PyTorch name is known for {path!r} in this architecture; pass the names function of the right one"


def lenet(paths: Collection[str]) -> dict[str, Place]:
    """`conv1`, `conv2`, `fc1`, `fc2`, ..."""
    places = by_rules(paths, [(r"conv_(\d+)", r"conv\1"), (r"dense_(\d+)", r"fc\1")])
    return places | {"dense_1": Place("fc1", "conv_2")}


def alexnet(paths: Collection[str]) -> dict[str, Place]:
    """`features.0` … `features.10`, `classifier.1`, `classifier.4`, `classifier.6`."""
    layers = {f"features/conv_{i + 1}": Place(f"features.{n}") for i, n in enumerate((0, 3, 6, 8, 10))}
    return _with_head(paths, layers, first=1, flattened="features/conv_5")


def vgg(paths: Collection[str]) -> dict[str, Place]:
    """`features.N`, counting convolutions, norms, activations and poolings; `classifier.0`, `.3`, `.6`."""
    convolutions = sorted(
        tuple(map(int, found.groups()))
        for path in paths
        if (found := re.fullmatch(r"features/stage_(\d+)/conv_(\d+)", path))
    )
    normed = any("/norm_" in path for path in paths)
    layers, index, last = {}, 0, ""
    for stage, number in convolutions:
        index += stage > 1 and number == 1
        last = f"features/stage_{stage}/conv_{number}"
        layers[last] = Place(f"features.{index}")
        if normed:
            layers[f"features/stage_{stage}/norm_{number}"] = Place(f"features.{index + 1}")
        index += 3 if normed else 2
    return _with_head(paths, layers, first=0, flattened=last)


def _with_head(paths: Collection[str], layers: dict[str, Place], *, first: int, flattened: str) -> dict[str, Place]:
    """Hidden layers at `first`, `first` + 3, ... of `classifier` and the logits at three times their number."""
    hidden = sum(path.startswith("head/hidden_") for path in paths)
    heads = {f"head/hidden_{i + 1}": Place(f"classifier.{first + 3 * i}") for i in range(hidden)}
    heads["head/logits"] = Place(f"classifier.{3 * hidden}")
    start = "head/hidden_1" if hidden else "head/logits"
    places = layers | heads | {start: heads[start]._replace(flattened=flattened)}
    if unknown := sorted(set(paths) - set(places)):
        raise ValueError(_unknown(unknown[0]))
    return places


def googlenet(paths: Collection[str]) -> dict[str, Place]:
    """`conv1.conv`, `inception3a.branch2.0.bn`, `aux1.fc1`, `fc`, ...

    The published weights want inputs of their own: `dlcore.interop.googlenet_inputs`.
    """
    unit = r"(conv|bn)"
    rules: Rules = [
        (rf"stem/conv_(\d)/{unit}", r"conv\1.\2"),
        (rf"module_(\w+)/branch_1/conv_1/{unit}", r"inception\1.branch1.\2"),
        (rf"module_(\w+)/branch_4/conv_1/{unit}", r"inception\1.branch4.1.\2"),
        (rf"module_(\w+)/branch_(\d)/conv_1/{unit}", r"inception\1.branch\2.0.\3"),
        (rf"module_(\w+)/branch_(\d)/conv_2/{unit}", r"inception\1.branch\2.1.\3"),
        (rf"auxiliary_(\d)/conv/{unit}", r"aux\1.conv.\2"),
        (r"auxiliary_(\d)/hidden", r"aux\1.fc1"),
        (r"auxiliary_(\d)/logits", r"aux\1.fc2"),
        (r"head/logits", "fc"),
    ]
    places = _with_bn(paths, rules)
    hidden = {path for path in paths if path.startswith("auxiliary") and path.endswith("hidden")}
    return places | {path: Place(places[path].module, path.replace("hidden", "conv/conv")) for path in hidden}


def resnet(paths: Collection[str]) -> dict[str, Place]:
    """`conv1`, `bn1`, `layer1.0.conv1`, `layer2.0.downsample.0`, `fc`, ..."""
    block = r"stage_(\d+)/block_(\d+)/"
    rules: Rules = [
        (r"stem/(conv|bn)", r"\g<1>1"),
        (rf"{block}(?:add/body/)?(conv|bn)_(\d)", r"layer\1.\2.\3\4"),
        (rf"{block}add/shortcut/conv", r"layer\1.\2.downsample.0"),
        (rf"{block}add/shortcut/bn", r"layer\1.\2.downsample.1"),
        (r"bn", "bn"),
        (r"head", "fc"),
    ]
    return _with_bn(paths, rules)


def _with_bn(paths: Collection[str], rules: Rules) -> dict[str, Place]:
    """By rules in which norms are called `bn`."""
    return {path: Place(_renamed(re.sub(r"\bnorm", "bn", path), rules)) for path in paths}


def densenet(paths: Collection[str]) -> dict[str, Place]:
    """`features.conv0`, `features.denseblock1.denselayer1.norm1`, `features.transition1.conv`, `classifier`, ..."""
    rules: Rules = [
        (r"stem/(conv|norm)", r"features.\g<1>0"),
        (r"block_(\d+)/layer_(\d+)/new/(conv|norm)_(\d)", r"features.denseblock\1.denselayer\2.\3\4"),
        (r"transition_(\d+)/(conv|norm)", r"features.transition\1.\2"),
        (r"norm", "features.norm5"),
        (r"head", "classifier"),
    ]
    return by_rules(paths, rules)


def mobilenet(paths: Collection[str]) -> dict[str, Place]:
    """`features.0.0`, `features.2.conv.0.0`, `features.18.0`, `classifier.1`, ..."""
    blocks = sorted({(int(m[1]), int(m[2])) for p in paths if (m := re.match(r"stage_(\d+)/block_(\d+)/", p))})
    index = {block: i for i, block in enumerate(blocks, start=1)}
    inner = ("conv", "norm")

    def place(match: re.Match) -> str:
        stage, block, part, leaf = match.groups()
        expanded = f"stage_{stage}/block_{block}/body/expand/conv" in paths
        unit = ("expand", "depthwise", "project").index(part) - (not expanded)
        start = f"features.{index[int(stage), int(block)]}.conv."
        return start + (f"{unit + inner.index(leaf)}" if part == "project" else f"{unit}.{inner.index(leaf)}")

    rules: Rules = [
        (r"stem/(conv|norm)", lambda m: f"features.0.{inner.index(m[1])}"),
        (r"stage_(\d+)/block_(\d+)/body/(\w+)/(conv|norm)", place),
        (r"last/(conv|norm)", lambda m: f"features.{len(blocks) + 1}.{inner.index(m[1])}"),
        (r"head", "classifier.1"),
    ]
    return by_rules(paths, rules)


def convnext(paths: Collection[str]) -> dict[str, Place]:
    """`features.0.0`, `features.1.0.block.0`, `features.1.0.layer_scale`, `features.2.1`, `classifier.2`, ..."""
    inner = {"depthwise": ".block.0", "norm": ".block.2", "expand": ".block.3", "project": ".block.5", "scale": ""}
    rules: Rules = [
        (r"stem/conv", "features.0.0"),
        (r"stem/norm", "features.0.1"),
        (r"stage_(\d+)/block_(\d+)/body/(\w+)", lambda m: f"features.{2 * int(m[1]) - 1}.{m[2]}{inner[m[3]]}"),
        (r"downsample_(\d+)/norm", lambda m: f"features.{2 * int(m[1])}.0"),
        (r"downsample_(\d+)/conv", lambda m: f"features.{2 * int(m[1])}.1"),
        (r"norm", "classifier.0"),
        (r"head", "classifier.2"),
    ]
    return by_rules(paths, rules)


def names_of(network: str) -> Names:
    """The names of an architecture as `dlcore.networks.network` calls it: "resnet18", "vgg16_bn", "cifar_resnet20".

    Raises `ValueError` for one that has none.
    """
    families = {f.__name__: f for f in (alexnet, convnext, densenet, googlenet, lenet, mobilenet, resnet, vgg)}
    for name, family in families.items():
        if re.fullmatch(rf"(cifar_)?{name}\d*(_.*)?", network):
            return family
    raise ValueError(f"PyTorch's names are known for {', '.join(families)}, not for {network!r}; use one of those")
