"""Changing the shape of each example."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Real

from dlcore.nn._function import Function
from dlcore.setting import Size, whole
from dlcore.types import Input, Key, Model, Params, State


def flatten(x: Array) -> Array:
    """[b, ...] to [b, n], row-major."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def space_to_depth(x: Real[Array, "b h w c"], size: Size) -> Real[Array, "b hs ws cs"]:
    """Each block of size × size pixels to one position with size² c channels, by row, column and channel of the block.

    Raises `ValueError` when `size` does not divide height and width.
    """
    size = whole(size, "space_to_depth: size")
    b, h, w, c = x.shape
    if h % size or w % size:
        raise ValueError(f"space_to_depth: {h}×{w} pixels cannot be cut into blocks of {size}×{size}")
    x = x.reshape(b, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // size, w // size, size * size * c)


def depth_to_space(x: Real[Array, "b hs ws cs"], size: Size) -> Real[Array, "b h w c"]:
    """The inverse of `space_to_depth`. Raises `ValueError` when size² does not divide the channels."""
    size = whole(size, "depth_to_space: size")
    b, h, w, c = x.shape
    if c % size**2:
        raise ValueError(f"depth_to_space: {c} channels cannot be laid out as blocks of {size}×{size}")
    x = x.reshape(b, h, w, size, size, c // size**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * size, w * size, c // size**2)


def DepthToSpace(size: Size) -> Model:
    """Layer of `depth_to_space`: behind a convolution, a way to more pixels (Shi et al. 2016)."""
    size = whole(size, "DepthToSpace: size")
    return Function(lambda x: depth_to_space(x, size), "depth_to_space")


def Flatten() -> Model:
    """Layer of `flatten`."""
    return Function(flatten, "flatten")


def Reshape(shape: Size | Sequence[Size]) -> Model:
    """[b, ...] to [b, *shape]; a whole number is one axis. Raises `ValueError` when the sizes differ."""
    shape = tuple(whole(n, "Reshape: shape", least=0) for n in (shape if np.ndim(shape) else (shape,)))

    def init(key: Key, x: Input) -> tuple[Params, State]:
        if math.prod(x.shape[1:]) != math.prod(shape):
            raise ValueError(f"Reshape: cannot turn examples of shape {tuple(x.shape[1:])} into {tuple(shape)}")
        return {}, {}

    def apply(
        params: Params, state: State, x: Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array, State]:
        return x.reshape(x.shape[0], *shape), state

    return Model(init, apply, "reshape")
