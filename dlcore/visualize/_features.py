"""What a network has learned and what it makes of an image: filters, and the outputs of any part (lecture 17)."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.lookup import lookup
from dlcore.nn import activations
from dlcore.setting import whole
from dlcore.tree import named_leaves
from dlcore.types import Model, Params, State


def filters(kernel: Float[Array, "..."]) -> Float[Array, "n h w c"]:
    """The filters of a convolution as images in [0, 1]: ½ + k / (2 max |k|), each by its own largest weight.

    Grey is 0, of whatever sign the weights are. Raises `ValueError` unless the kernel has four axes.

    >>> filters(jnp.array([1.0, -2.0, 0.0, 4.0]).reshape(2, 2, 1, 1))[0, ..., 0]
    Array([[0.625, 0.25 ],
           [0.5  , 1.   ]], dtype=float32)
    """
    if kernel.ndim != 4:
        raise ValueError(f"filters: expected the kernel of a convolution [h, w, c, n], got {kernel.shape}")
    images = jnp.moveaxis(kernel, -1, 0)
    largest = jnp.abs(images).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + images / (2 * jnp.where(largest > 0, largest, 1))


@functools.partial(jax.jit, static_argnames=("model", "path"))
def feature_maps(model: Model, params: Params, state: State, x: Any, path: str) -> Any:
    """The output of the part at `path` ("stage_1/conv_0"; the second call of a part is "relu:1"), as in inference.

    Raises `ValueError`, naming the nearest, for a path that the model does not call, and for a model without parts.
    """
    return lookup("part", path, activations(model, params, state, x)[1])


def strongest(outputs: Float[Array, "h w c"], count: int) -> Float[Array, "n h w 1"]:
    """The channels with the largest means, that one first, as images in [0, 1], each from its least to its largest."""
    first = jnp.argsort(-outputs.mean((0, 1)))[: whole(count, "strongest: count")]
    chosen = jnp.moveaxis(outputs, -1, 0)[first, ..., None]
    low, high = (edge(chosen, axis=(1, 2, 3), keepdims=True) for edge in (jnp.min, jnp.max))
    return (chosen - low) / jnp.where(high > low, high - low, 1)


def paths(model: Model, params: Params, state: State, x: Any) -> dict[str, tuple[int, ...]]:
    """The shape of the output of every part by path, in the order of their calls. Nothing is computed."""
    order: list[str] = []

    def trace(params: Params, state: State, x: Any) -> dict[str, Any]:
        found = activations(model, params, state, x)[1]
        order.extend(found)
        return found

    found = jax.eval_shape(trace, params, state, x)
    return {path: found[path].shape for path in order if hasattr(found[path], "shape")}


def spatial(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Of the `paths` of a network those of whole stages with several places [b, h, w, c], in the order of calls."""
    return [path for path, s in shapes.items() if "/" not in path and len(s) == 4 and max(s[1:3]) > 1]


def first_kernel(params: Params, shapes: Iterable[str]) -> str | None:
    """Path of the kernel of the first convolution that is called, if any."""
    leaves = dict(named_leaves(params))
    kernels = (f"{path}/kernel" for path in shapes)
    return next((path for path in kernels if path in leaves and leaves[path].ndim == 4), None)
