"""Feature inversion: the image that a network cannot tell from a given one at some layer (lecture 17)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.operands import equal_shapes
from dlcore.setting import Number
from dlcore.types import Key, Model, Params, State
from dlcore.visualize._features import feature_maps
from dlcore.visualize._maximize import identity
from dlcore.visualize._picture import Picture, descend


def invert(
    model: Model,
    params: Params,
    state: State,
    features: Float[Array, "n ..."],
    path: str,
    *,
    picture: Picture,
    key: Key,
    prepare: Callable[[Array], Array] = identity,
    steps: int = 256,
    learning_rate: Number = 0.05,
    jitter: int = 0,
    variation: Number = 0.01,
) -> Float[Array, "n h w c"]:
    """Images in [0, 1] that make ‖Φ(x) − Φ₀‖² / ‖Φ₀‖² + variation · TV(x) small (Mahendran & Vedaldi 2015).

    Φ are the outputs of the part at `path`, Φ₀ = `features` those of the images that are looked for, as `feature_maps`
    gives them; `prepare` makes of pixels in [0, 1] what the network takes. What comes out differently is what the
    layer has dropped. An image does not depend on the others. Raises `ValueError` for a path that there is not, and
    for features of another shape.
    """
    return descend(
        _Distance(model, path, prepare),
        {"params": params, "state": state, "features": features},
        picture,
        len(features),
        key=key,
        steps=steps,
        learning_rate=learning_rate,
        jitter=jitter,
        variation=variation,
    )


def distance(
    model: Model,
    params: Params,
    state: State,
    features: Float[Array, "n ..."],
    path: str,
    images: Float[Array, "n ..."],
    *,
    prepare: Callable[[Array], Array] = identity,
) -> Float[Array, " n"]:
    """‖Φ(x) − Φ₀‖² / ‖Φ₀‖² of each image: 0 for one that the layer cannot tell from the given one, 1 for Φ(x) = 0."""
    return _distance(_Distance(model, path, prepare), {"params": params, "state": state, "features": features}, images)


@dataclass(frozen=True)
class _Distance:
    """`distance` as a cost that `descend` takes."""

    model: Model
    path: str
    prepare: Callable[[Array], Array]

    def __call__(self, given: Any, images: Array) -> Array:
        found = feature_maps(self.model, given["params"], given["state"], self.prepare(images), self.path)
        equal_shapes("invert", features=given["features"], found=found)
        rows = lambda h: jnp.square(h).reshape(len(h), -1).sum(1)  # noqa: E731
        return rows(found - given["features"]) / rows(given["features"])


_distance = jax.jit(lambda cost, given, images: cost(given, images), static_argnums=0)
