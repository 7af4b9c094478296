"""What an output can see: by formula over a chain of layers, and by the gradient of any function (lecture 14.8)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dlcore.setting import Number
from dlcore.types import Key


class Layer(NamedTuple):
    """One layer of a chain along one axis."""

    window: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0
    """Cells added at the low side."""


class Field(NamedTuple):
    """Output i sees the inputs start + i · jump … start + i · jump + size − 1; those outside are padding."""

    size: int
    jump: int
    start: int


def receptive_field(layers: Sequence[Layer]) -> Field:
    """size = 1 + Σ_l (w_l − 1) d_l Π_{m<l} s_m, jump = Π_l s_l and start = −Σ_l p_l Π_{m<l} s_m.

    Raises `ValueError` for a window, stride or dilation below 1.
    """
    size, jump, start = 1, 1, 0
    for layer in layers:
        if min(layer.window, layer.stride, layer.dilation) < 1:
            raise ValueError(f"receptive_field: window, stride and dilation must be at least 1, got {layer}")
        size += (layer.window - 1) * layer.dilation * jump
        start -= layer.padding * jump
        jump *= layer.stride
    return Field(size, jump, start)


def influence(
    function: Callable[[Array], Array], x: Float[Array, "1 *space c"], site: Sequence[Number], *, key: Key
) -> Float[Array, "*space"]:
    """|∂ y[site] / ∂ x| summed over channels, for `function` from [1, *space, c] to [1, *space_out, f].

    The features at `site` are weighted by random numbers, so that no sum over them cancels. 0 is no influence at x.
    """

    def output(x: Array) -> Array:
        features = function(x)[(0, *site)]
        return jnp.vdot(jax.random.normal(key, features.shape, features.dtype), features)

    return jnp.abs(jax.grad(output)(x))[0].sum(-1)


def extent(seen: Bool[np.ndarray, "*space"]) -> list[tuple[int, int]]:
    """First and last cell along every axis where `seen` holds. Raises `ValueError` when it holds nowhere."""
    if not seen.any():
        raise ValueError("extent: nothing is seen")
    return [(int(where.min()), int(where.max())) for where in np.nonzero(seen)]
