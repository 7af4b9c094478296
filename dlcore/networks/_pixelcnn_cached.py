"""The gated PixelCNN one pixel at a time, over cached activations (lecture 26.2)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import dynamic_slice_in_dim, dynamic_update_slice
from jaxtyping import Array, Float

from dlcore.networks._causal import colour_mask, gate
from dlcore.nn import embedding
from dlcore.types import Params


def check_label(classes: int, label: Array | None, shape: Sequence[int]) -> None:
    """Raises `ValueError` for labels that are missing, not asked for, or not one per image of `shape`."""
    if classes and (label is None or label.shape != tuple(shape[:1])):
        given = "none" if label is None else f"shape {label.shape}"
        raise ValueError(f"label must be one class number for each image of {tuple(shape)}, got {given}")
    if not classes and label is not None:
        raise ValueError("this network takes no label: it was made without classes")


class _Layer(NamedTuple):
    """What a layer reads beside the current pixel: the rows above it, and the pixels at its left and right."""

    name: str
    window: int
    dilation: int
    first: bool
    """Whether it sees the image, of which the current pixel and its row are not known yet."""

    @property
    def height(self) -> int:
        """Rows of the vertical window."""
        return self.window // 2 + (not self.first)

    @property
    def top(self) -> int:
        """Rows that the vertical cache holds above the current one."""
        return (self.height - 1) * self.dilation + self.first

    @property
    def side(self) -> int:
        """Columns that the caches hold at either side."""
        return self.window // 2 * self.dilation


def cached(
    windows: Sequence[int], dilations: Sequence[int], colours: int, features: int, classes: int
) -> tuple[Callable[..., Any], ...]:
    """`start`, `row`, `pixel` and `put` of the `dlcore.networks.PixelNetwork` of a gated PixelCNN.

    Small matrix products: a row of the vertical stack, a pixel of the horizontal one.
    """
    sizes = enumerate(zip(windows, dilations, strict=True))
    layers = [_Layer(f"layer_{i + 1}", window, dilation, i == 0) for i, (window, dilation) in sizes]

    def start(params: Params, shape: Sequence[int], label: Array | None = None) -> dict[str, Any]:
        check_label(classes, label, shape)
        b, h, w, c = shape
        seen = list(zip(layers, [c, *[features] * (len(layers) - 1)], strict=True))
        table = lambda layer: params[layer.name]["label"]["embedding"]  # noqa: E731
        return {
            "up": [jnp.zeros((b, h + layer.top, w + 2 * layer.side, width)) for layer, width in seen],
            "left": [jnp.zeros((b, w + layer.side, width)) for layer, width in seen],
            "links": [jnp.zeros((b, w, 2 * features)) for _ in layers],
            "labels": [embedding(label, table(n)) if classes else jnp.zeros((b, 4 * features)) for n in layers],
        }

    def row(params: Params, cache: dict[str, Any], r: Array) -> dict[str, Any]:
        up, links = list(cache["up"]), []
        for i, layer in enumerate(layers):
            own = params[layer.name]
            y = _vertical(own["vertical"], layer, up[i], r) + cache["labels"][i][:, None, : 2 * features]
            if layer.first:
                y = y + own["position"]["bias"][r, :, : 2 * features]
            links.append(y @ own["link"]["kernel"][0, 0] + own["link"]["bias"])
            if i + 1 < len(layers):
                above = layers[i + 1]
                up[i + 1] = dynamic_update_slice(up[i + 1], gate(y)[:, None], (0, r + above.top, above.side, 0))
        return {**cache, "up": up, "links": links, "left": [jnp.zeros_like(h) for h in cache["left"]]}

    def pixel(params: Params, cache: dict[str, Any], r: Array, c: Array) -> tuple[Array, dict[str, Any]]:
        left = list(cache["left"])
        for i, layer in enumerate(layers):
            own = params[layer.name]
            patch = dynamic_slice_in_dim(left[i], c, layer.side + 1, axis=1)[:, :: layer.dilation]
            y = _horizontal(own["horizontal"], layer, patch, colours)
            y = y + cache["labels"][i][:, 2 * features :] + cache["links"][i][:, c]
            if layer.first:
                y = y + own["position"]["bias"][r, c, 2 * features :]
            out = _point(own["out"], gate(y), colours)
            h = out if layer.first else patch[:, -1] + out
            if i + 1 < len(layers):
                left[i + 1] = dynamic_update_slice(left[i + 1], h[:, None], (0, c + layers[i + 1].side, 0))
        h = _point(params["head"]["hidden"], jax.nn.relu(h), colours)
        return _point(params["head"]["outputs"], jax.nn.relu(h), colours), {**cache, "left": left}

    def put(cache: dict[str, Any], r: Array, c: Array, value: Array) -> dict[str, Any]:
        up, left, image = list(cache["up"]), list(cache["left"]), layers[0]
        up[0] = dynamic_update_slice(up[0], value[:, None, None], (0, r + image.top, c + image.side, 0))
        left[0] = dynamic_update_slice(left[0], value[:, None], (0, c + image.side, 0))
        return {**cache, "up": up, "left": left}

    return start, row, pixel, put


def _vertical(params: Params, layer: _Layer, up: Array, r: Array) -> Float[Array, "b w g"]:
    """The vertical window over all of row r, of the rows above that the cache holds."""
    kernel, d = params["kernel"], layer.dilation
    rows = dynamic_slice_in_dim(up, r, (layer.height - 1) * d + 1, axis=1)
    width = rows.shape[2] - 2 * layer.side
    taps = [rows[:, a * d, k * d : k * d + width] for a in range(layer.height) for k in range(layer.window)]
    return jnp.concatenate(taps, -1) @ kernel.reshape(-1, kernel.shape[-1]) + params["bias"]


def _horizontal(params: Params, layer: _Layer, patch: Float[Array, "b k f"], colours: int) -> Float[Array, "b g"]:
    """The horizontal window that ends at the current pixel, whose colours are masked."""
    kernel = params["kernel"][0]
    mask = colour_mask(kernel.shape[1], kernel.shape[2], colours, "A" if layer.first else "B", parts=2)
    kernel = kernel.at[-1].multiply(mask)
    return patch.reshape(len(patch), -1) @ kernel.reshape(-1, kernel.shape[-1]) + params["bias"]


def _point(params: Params, x: Float[Array, "b f"], colours: int) -> Float[Array, "b g"]:
    kernel = params["kernel"][0, 0]
    return x @ (kernel * colour_mask(*kernel.shape, colours, "B")) + params["bias"]
