"""What Flax's Linen definitions call the modules that dlcore addresses by path (lecture 16, 18)."""

import re
from collections.abc import Callable, Collection
from typing import TypeAlias

Names: TypeAlias = Callable[[Collection[str]], dict[str, str]]
"""Module paths of a network of `dlcore.networks` (stages not stacked) to those of the Linen module."""

BLOCK = r"stage_(\d+)/block_(\d+)/add/"
NORM = {"conv": "Conv", "norm": "BatchNorm"}


def resnet(paths: Collection[str]) -> dict[str, str]:
    """`conv_init`, `bn_init`, `ResNetBlock_0/Conv_0`, `BottleneckResNetBlock_3/conv_proj`, `Dense_0`, ...

    The names of Flax's ImageNet example. The network is `ResNet(imagenet_config(layers, padding="flax"))`. Raises
    `ValueError` for a path that it does not have, such as those of a pre-activation network.
    """
    blocks = sorted({tuple(map(int, m.groups())) for path in paths if (m := re.match(BLOCK, path))})
    kind = "BottleneckResNetBlock" if any(path.endswith("/conv_3") for path in paths) else "ResNetBlock"
    ends = {"stem/conv": "conv_init", "stem/norm": "bn_init", "head": "Dense_0"}

    def name(path: str) -> str:
        found = re.fullmatch(BLOCK + r"(?:body/(conv|norm)_(\d)|shortcut/(conv|norm))", path)
        if path in ends or found is None:
            return ends.get(path, "")
        stage, block, layer, number, side = found.groups()
        inner = f"{side}_proj" if side else f"{NORM[layer]}_{int(number) - 1}"
        return f"{kind}_{blocks.index((int(stage), int(block)))}/{inner}"

    names = {path: name(path) for path in paths}
    if unknown := sorted(path for path in paths if not names[path]):
        raise ValueError(f"no Flax name is known for {unknown[0]!r} in a ResNet; use preactivation=False, shortcut='B'")
    return names
