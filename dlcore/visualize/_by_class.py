"""Why an image would be in each class: the maps of all classes and layers, to be explored by hand (lecture 17)."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.types import Key
from dlcore.visualize._methods import Question, Settings, attribution

LAYERED = ("grad_cam", "hires_cam", "layer_cam", "guided_grad_cam")
"""Methods that weigh the places of one layer."""


def by_class(
    name: str,
    question: Question,
    settings: Settings,
    classes: int,
    layers: Sequence[str],
    *,
    baseline: Float[Array, "h w c"],
    key: Key,
) -> Float[np.ndarray, "l b k h w"]:
    """Maps by `name` of the images of `question`, asked in turn for each of the first `classes` classes.

    One set for each of `layers` for the methods of `LAYERED`, and one in all for the others. `question.target` does not
    count. The largest magnitude of each map is 1, unless it is 0 everywhere.
    """
    count, sides = len(question.x), question.x.shape[1:3]
    repeated, targets = jnp.repeat(question.x, classes, axis=0), jnp.tile(jnp.arange(classes), count)
    asked = question._replace(x=repeated, target=targets)

    def scaled(settings: Settings) -> np.ndarray:
        maps = np.asarray(attribution(name, asked, settings, baseline=baseline, key=key))
        largest = np.abs(maps).max(axis=(1, 2), keepdims=True)
        return (maps / np.where(largest > 0, largest, 1)).reshape(count, classes, *sides)

    return np.stack([scaled(replace(settings, layer=layer)) for layer in layers_of(name, layers, settings.layer)])


def layers_of(name: str, layers: Sequence[str], other: str = "") -> Sequence[str]:
    """The layers that the method `name` is shown at: all of them, or `other` alone if it weighs none."""
    return layers if name in LAYERED else (other,)


def answers(question: Question) -> Float[np.ndarray, "b k"]:
    """The probabilities that the network of `question` gives to the classes of its images."""
    logits, _ = jax.jit(question.model.apply)(question.params, question.state, question.x)
    return np.asarray(jax.nn.softmax(logits))
