"""A classifier of images with those of its parts that are looked at (lecture 17)."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dlcore.lookup import check_name
from dlcore.types import Model
from dlcore.visualize import _features as features


class Network(NamedTuple):
    """The classifier as it was built, and which of its parts are looked at."""

    model: Model
    layer: str
    """Whose places class activation maps weigh."""
    patch_layer: str
    """Whose strongest patches are shown."""
    stages: tuple[str, ...]
    """Parts with places, in the order of their calls."""
    kernel: str
    """Path of the first convolution's."""
    groups: tuple[str, ...]
    """Parts with params, the last one first."""


def network(model: Model, shape: Sequence[int], layer: str = "", patch_layer: str = "") -> Network:
    """The parts of a classifier of images of `shape` [h, w, c], of which nothing is computed.

    `layer` is by default the last stage that has places, `patch_layer` the middle one. Raises `ValueError` for a
    network without places, and for unknown layers, naming the nearest.
    """
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    params, state = jax.eval_shape(model.init, jax.random.key(0), image)
    shapes = features.paths(model, params, state, image)
    stages, kernel = features.spatial(shapes), features.first_kernel(params, shapes)
    if not stages or kernel is None:
        raise ValueError("the classifier has no convolutions, and so no places to look at; use a CNN")
    layer, patch_layer = layer or stages[-1], patch_layer or stages[len(stages) // 2]
    for path in (layer, patch_layer):
        check_name("layer with places", path, [path for path, shape in shapes.items() if len(shape) == 4])
    groups = tuple(name for name in reversed(model.apply.parts) if name in params)
    return Network(model, layer, patch_layer, tuple(stages), kernel, groups)
