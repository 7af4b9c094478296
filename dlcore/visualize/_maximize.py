"""Activation maximisation: the images that a class or a channel answers to most (lecture 17)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from dlcore.setting import Number
from dlcore.types import Key, Model, Params, State
from dlcore.visualize._features import feature_maps
from dlcore.visualize._picture import Picture, descend
from dlcore.visualize._score import Score, logit


class Maximized(NamedTuple):
    """Images in [0, 1] [n, h, w, c], and their scores [n]."""

    images: Float[Array, "n h w c"]
    scores: Float[Array, " n"]


def channel(outputs: Float[Array, "b *s c"], target: Int[Array, " b"]) -> Float[Array, " b"]:
    """The mean over all places of the channel `target` of each image."""
    return logit(outputs.reshape(len(outputs), -1, outputs.shape[-1]).mean(1), target)


def identity(images: Array) -> Array:
    """The images themselves, for networks that take pixels in [0, 1]."""
    return images


def maximize(
    model: Model,
    params: Params,
    state: State,
    target: Int[Array, " n"],
    *,
    picture: Picture,
    key: Key,
    path: str = "",
    score: Score | None = None,
    prepare: Callable[[Array], Array] = identity,
    steps: int = 256,
    learning_rate: Number = 0.05,
    jitter: int = 2,
    variation: Number = 0.0,
) -> Maximized:
    """One image for each target that makes its score large (Erhan et al. 2009; Olah et al. 2017).

    The score is the logit of a class, or with `path` the mean `channel` of the outputs of that part; `prepare` makes of
    pixels in [0, 1] what the network takes. `variation` is the price of total variation, `jitter` and the steps are
    those of `descend`. An image does not depend on the other targets. Raises `ValueError` for a path that there is not.

    >>> import jax.numpy as jnp
    >>> from dlcore.nn import Dense, Flatten, serial
    >>> model, params = serial(Flatten(), Dense(1, bias=False)), {"dense_0": {"kernel": jnp.array([[1.0], [-1.0]])}}
    >>> options = {"picture": Picture((1, 2, 1), fourier=False), "key": jax.random.key(0), "jitter": 0}
    >>> maximize(model, params, {}, jnp.array([0]), **options).images.round().ravel()
    Array([1., 0.], dtype=float32)
    """
    cost = _Against(model, path, score or (channel if path else logit), prepare)
    given = {"params": params, "state": state, "target": target}
    images = descend(
        cost,
        given,
        picture,
        len(target),
        key=key,
        steps=steps,
        learning_rate=learning_rate,
        jitter=jitter,
        variation=variation,
    )
    return Maximized(images, -_costs(cost, given, images))


@dataclass(frozen=True)
class _Against:
    """−score of images."""

    model: Model
    path: str
    score: Score
    prepare: Callable[[Array], Array]

    def __call__(self, given: Any, images: Array) -> Array:
        x, (params, state) = self.prepare(images), (given["params"], given["state"])
        if self.path:
            return -self.score(feature_maps(self.model, params, state, x, self.path), given["target"])
        return -self.score(self.model.apply(params, state, x)[0], given["target"])


_costs = jax.jit(lambda cost, given, images: cost(given, images), static_argnums=0)
