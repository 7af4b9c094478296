"""Changing the shape of each example."""

import math
from collections.abc import Sequence

from jaxtyping import Array

from dlcore.types import Input, Key, Model, Params, State


def flatten(x: Array) -> Array:
    """[b, ...] to [b, n], row-major."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def Flatten() -> Model:
    """Layer of `flatten`."""

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return {}, {}

    def apply(
        params: Params, state: State, x: Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array, State]:
        return flatten(x), state

    return Model(init, apply)


def Reshape(shape: Sequence[int]) -> Model:
    """[b, ...] to [b, *shape]. Raises `ValueError` when the sizes differ."""

    def init(key: Key, x: Input) -> tuple[Params, State]:
        if math.prod(x.shape[1:]) != math.prod(shape):
            raise ValueError(f"Reshape: cannot turn examples of shape {tuple(x.shape[1:])} into {tuple(shape)}")
        return {}, {}

    def apply(
        params: Params, state: State, x: Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array, State]:
        return x.reshape(x.shape[0], *shape), state

    return Model(init, apply)
