"""The gated PixelCNN one pixel at a time, over cached activations (lecture 26.2)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
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


def cached(
    windows: Sequence[int], dilations: Sequence[int], colours: int, features: int, classes: int
) -> tuple[Callable[..., Any], ...]:
    """`start`, `row`, `pixel` and `put` of the `dlcore.networks.PixelNetwork` of a gated PixelCNN.

    Small matrix products: a row of the vertical stack, a pixel of the horizontal one.
    """
    count = len(windows)
    heights = [w // 2 if i == 0 else w // 2 + 1 for i, w in enumerate(windows)]
    # Rows above, columns at either side and pixels at the left that a layer's cache holds beside the current one.
    tops = [(height - 1) * d + (i == 0) for i, (height, d) in enumerate(zip(heights, dilations, strict=True))]
    sides = [window // 2 * d for window, d in zip(windows, dilations, strict=True)]

    def start(params: Params, shape: Sequence[int], label: Array | None = None) -> dict[str, Any]:
        check_label(classes, label, shape)
        b, h, w, c = shape
        widths = [c, *[features] * (count - 1)]
        up = [jnp.zeros((b, h + tops[i], w + 2 * sides[i], widths[i])) for i in range(count)]
        left = [jnp.zeros((b, w + sides[i], widths[i])) for i in range(count)]
        links = [jnp.zeros((b, w, 2 * features)) for _ in range(count)]
        labels = [
            embedding(label, params[f"layer_{i + 1}"]["label"]["embedding"])
            if classes
            else jnp.zeros((b, 4 * features))
            for i in range(count)
        ]
        return {"up": up, "left": left, "links": links, "labels": labels}

    def row(params: Params, cache: dict[str, Any], r: Array) -> dict[str, Any]:
        up, links = list(cache["up"]), []
        for i in range(count):
            layer, label = params[f"layer_{i + 1}"], cache["labels"][i]
            kernel, d = layer["vertical"]["kernel"], dilations[i]
            rows = jax.lax.dynamic_slice_in_dim(up[i], r, (heights[i] - 1) * d + 1, axis=1)
            width = rows.shape[2] - 2 * sides[i]
            taps = [rows[:, a * d, k * d : k * d + width] for a in range(heights[i]) for k in range(windows[i])]
            y = jnp.concatenate(taps, -1) @ kernel.reshape(-1, kernel.shape[-1]) + layer["vertical"]["bias"]
            y = y + label[:, None, : 2 * features]
            if i == 0:
                y = y + layer["position"]["bias"][r, :, : 2 * features]
            links.append(y @ layer["link"]["kernel"][0, 0] + layer["link"]["bias"])
            if i + 1 < count:
                place = (0, r + tops[i + 1], sides[i + 1], 0)
                up[i + 1] = jax.lax.dynamic_update_slice(up[i + 1], gate(y)[:, None], place)
        return {**cache, "up": up, "links": links, "left": [jnp.zeros_like(h) for h in cache["left"]]}

    def pixel(params: Params, cache: dict[str, Any], r: Array, c: Array) -> tuple[Array, dict[str, Any]]:
        left = list(cache["left"])
        for i in range(count):
            layer, label = params[f"layer_{i + 1}"], cache["labels"][i]
            patch = jax.lax.dynamic_slice_in_dim(left[i], c, sides[i] + 1, axis=1)[:, :: dilations[i]]
            kernel = layer["horizontal"]["kernel"][0]
            mask = colour_mask(kernel.shape[1], kernel.shape[2], colours, "B" if i else "A", parts=2)
            kernel = kernel.at[-1].multiply(mask)
            y = patch.reshape(len(patch), -1) @ kernel.reshape(-1, kernel.shape[-1]) + layer["horizontal"]["bias"]
            y = y + label[:, 2 * features :] + cache["links"][i][:, c]
            if i == 0:
                y = y + layer["position"]["bias"][r, c, 2 * features :]
            out = _point(layer["out"], gate(y), colours)
            h = out if i == 0 else patch[:, -1] + out
            if i + 1 < count:
                place = (0, c + sides[i + 1], 0)
                left[i + 1] = jax.lax.dynamic_update_slice(left[i + 1], h[:, None], place)
        h = _point(params["head"]["hidden"], jax.nn.relu(h), colours)
        return _point(params["head"]["outputs"], jax.nn.relu(h), colours), {**cache, "left": left}

    def put(cache: dict[str, Any], r: Array, c: Array, value: Array) -> dict[str, Any]:
        up, left = list(cache["up"]), list(cache["left"])
        up[0] = jax.lax.dynamic_update_slice(up[0], value[:, None, None], (0, r + tops[0], c + sides[0], 0))
        left[0] = jax.lax.dynamic_update_slice(left[0], value[:, None], (0, c + sides[0], 0))
        return {**cache, "up": up, "left": left}

    return start, row, pixel, put


def _point(params: Params, x: Float[Array, "b f"], colours: int) -> Float[Array, "b g"]:
    kernel = params["kernel"][0, 0]
    return x @ (kernel * colour_mask(*kernel.shape, colours, "B")) + params["bias"]
