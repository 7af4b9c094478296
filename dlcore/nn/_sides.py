"""Images whose sides cannot be halved: padded before networks that halve, cropped behind networks that double them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Shaped

from dlcore.nn._graph import Call, Graph
from dlcore.setting import whole
from dlcore.types import Model


def padded_sides(shape: Sequence[int], factor: int) -> tuple[int, ...]:
    """`shape` [h, w, ...] with both sides raised to the next multiple of `factor`.

    Raises `ValueError` for a factor below 1.
    """
    factor = whole(factor, "padded_sides: factor")
    height, width, *rest = shape
    return (-(-height // factor) * factor, -(-width // factor) * factor, *rest)


def pad_sides(x: Shaped[Array, "b h w c"], factor: int, mode: str = "constant") -> Shaped[Array, "b h2 w2 c"]:
    """Rows below and columns at the right until `factor` divides both sides: zeros, or with "edge" the border."""
    height, width, _ = padded_sides(x.shape[1:], factor)
    if (height, width) == x.shape[1:3]:
        return x
    return jnp.pad(x, ((0, 0), (0, height - x.shape[1]), (0, width - x.shape[2]), (0, 0)), mode=mode)


def crop_sides(x: Shaped[Array, "b h2 w2 c"], height: int, width: int) -> Shaped[Array, "b h w c"]:
    """The first rows and columns: undoes `pad_sides`. Raises `ValueError` for sides longer than those of `x`."""
    if height > x.shape[1] or width > x.shape[2]:
        raise ValueError(f"crop_sides: {height}×{width} does not fit into {x.shape[1]}×{x.shape[2]}")
    return x if (height, width) == x.shape[1:3] else x[:, :height, :width]


def padded(model: Model, factor: int) -> Model:
    """`model` on images of any sides: its first input is padded by its border, its output cropped to the old sides.

    For networks from images to images that halve their sides, such as a U-Net. Paths of params are those of `model`.
    """
    factor = whole(factor, "padded: factor")

    def forward(call: Call, x: Array, *rest: Any) -> Array:
        return crop_sides(call("", pad_sides(x, factor, "edge"), *rest), *x.shape[1:3])

    return _around(model, forward, "padded")


def cropped(model: Model, height: int, width: int) -> Model:
    """`model` with images as output, of which the first `height` rows and `width` columns are kept; same paths."""
    height, width = whole(height, "cropped: height"), whole(width, "cropped: width")
    return _around(model, lambda call, *inputs: crop_sides(call("", *inputs), height, width), "cropped")


def _around(model: Model, forward: Callable[..., Array], kind: str) -> Model:
    graph = Graph(forward, {"": model}, lambda tree, name: tree, lambda branches: branches[""])
    return Model(graph.init, graph, kind)
