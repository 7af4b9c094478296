"""Recipes of `classify` that train for seconds on a GPU, to 94, 95 and 96 % on Fashion-MNIST if all goes well.

./launch/local.sh train --experiment=classify --data=fashion_mnist --preset=speed94 --seeds=registered
./launch/local.sh bench --suite=recipes

Whole epochs are one compiled call, the data lies on the device as uint8 and is augmented there; the network computes
in bfloat16, matrices move by Muon, a frozen stem whitens patches of training images, and the test is one plain forward
pass. What they reach has not been measured on a GPU yet.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from dlcore.data import DataSpec
from dlcore.optim import OptimizerConfig
from dlcore.train import budget

SEEDS = tuple(range(9400, 9410))
"""Registered before any of these runs was made: what is reported is over all of them."""


class Recipe(NamedTuple):
    """What the recipes differ in."""

    model: str
    widths: tuple[int, ...]
    steps: int
    """Of 512 images, 107 to an epoch of Fashion-MNIST."""
    cutout: int


RECIPES = {
    "speed94": Recipe("whitened_cnn", (64, 256, 256), 10 * 107, 0),
    "speed95": Recipe("whitened_cnn", (128, 384, 384), 24 * 107, 6),
    "speed96": Recipe("whitened_resnet", (128, 512, 512), 60 * 107, 10),
}


def recipe(name: str, config: Any, spec: DataSpec) -> Any:
    """The configuration `config` of `classify` with what the recipe says; pictures of clothes may be mirrored.

    Raises `ValueError` for data that are no images.
    """
    if len(spec.shape) == 1:
        raise ValueError(f"preset {name} is for images, and {spec.name} has points; use mlp")
    model, widths, steps, cutout = RECIPES[name]
    large = max(spec.shape[:2]) > 16
    optimizer = OptimizerConfig(
        "muon", learning_rate=0.1, schedule="linear", momentum=0.6, vector_rate=0.05, weight_decay=0.02
    )
    return replace(
        config,
        model=model,
        widths=widths,
        shift=2 if large else 1,
        flip=large,
        cutout=cutout if large else 0,
        label_smoothing=0.1,
        dtype="bfloat16",
        optimizer=optimizer,
        train=replace(budget(spec.sizes[0], batch_size=512, steps=steps, every=0), whole_epochs=True),
    )
