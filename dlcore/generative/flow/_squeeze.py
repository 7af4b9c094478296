"""Squeeze: space to channels (lecture 28.3; Dinh et al. 2017, section 3.6)."""

from jaxtyping import Array

from dlcore.generative.flow._chain import Moved, no_change
from dlcore.nn import depth_to_space, space_to_depth
from dlcore.setting import whole
from dlcore.types import Bijector, Key, Params


def Squeeze(factor: int = 2) -> Bijector:
    """The bijection `space_to_depth`; volumes stay the same."""
    factor = whole(factor, "Squeeze: factor")

    def init(key: Key, x: Array) -> Params:
        return {}

    def forward(params: Params, x: Array) -> Moved:
        return space_to_depth(x, factor), no_change(x)

    def inverse(params: Params, z: Array) -> Moved:
        return depth_to_space(z, factor), no_change(z)

    return Bijector(init, forward, inverse, "squeeze")
