"""What is explained: one number per image, from the outputs of a network (lecture 17).

A score is a function `(outputs, target) -> [b]`, the same for every call so that nothing is compiled anew; `target` is
an array, or a tree of arrays, with one entry per image. The gradient of a probability vanishes where the network is
sure, so that the score of a class is its logit.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dlcore.operands import class_labels, shape_of
from dlcore.setting import traced
from dlcore.types import Model, Params, State

Score: TypeAlias = Callable[[Any, Any], Array]


def logit(outputs: Float[Array, "b classes"], target: Int[Array, " b"]) -> Float[Array, " b"]:
    """The output of the class `target` of each image, in nats where outputs are logits.

    Raises `ValueError` unless the outputs are [b, classes] and there is one integer for each image; the score of a
    class that there is not is NaN where the value is traced.

    >>> logit(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0]))
    Array([2., 3.], dtype=float32)
    """
    if outputs.ndim != 2:
        raise ValueError(
            f"logit: expected outputs [b, classes], got {outputs.shape}; pass score=, a function "
            "(outputs, target) -> [b]"
        )
    index, inside, _ = class_labels("logit", target, outputs.shape[:1], outputs.shape[1], name="target")
    taken = jnp.take_along_axis(outputs, index[:, None], axis=1)[:, 0]
    return taken * jnp.where(inside, 1.0, jnp.nan).astype(taken.dtype)


def probability(outputs: Float[Array, "b classes"], target: Int[Array, " b"]) -> Float[Array, " b"]:
    """softmax(outputs) of the class `target` of each image: for curves of scores, not for gradients."""
    return logit(jax.nn.softmax(outputs), target)


def checked(function: str, x: Array, target: Any) -> None:
    """Raise `ValueError` unless x is made of floats and every leaf of `target` has an entry per image."""
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating) or len(shape_of(x)) < 2:
        raise ValueError(
            f"{function}: x must be floats [b, ...], got {jnp.result_type(x)} {shape_of(x)}; preprocess images first"
        )
    for leaf in jax.tree.leaves(target):
        if shape_of(leaf)[:1] != shape_of(x)[:1]:
            raise ValueError(
                f"{function}: target has shape {shape_of(leaf)}, expected one entry for each of {shape_of(x)[0]} images"
            )
        if not traced(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.integer) and (np.asarray(leaf) < 0).any():
            raise ValueError(f"{function}: target must not be negative, got {np.asarray(leaf).min()}")


def scored(model: Model, params: Params, state: State, x: Array, target: Any, score: Score) -> Float[Array, " b"]:
    """The scores of images as in inference. Raises `ValueError` unless there is one for each."""
    found = score(model.apply(params, state, x)[0], target)
    if shape_of(found) != (len(x),):
        raise ValueError(f"score must give one number for each of {len(x)} images, got shape {shape_of(found)}")
    return found


def like(name: str, value: Any, x: Array) -> Array:
    """`value` as images like x, from a number, one image, or one per image; raises `ValueError` for another shape."""
    if shape_of(value) not in ((), x.shape[1:], x.shape):
        raise ValueError(
            f"{name} has shape {shape_of(value)}; it must be a number, one image {x.shape[1:]}, or images {x.shape}"
        )
    return jnp.broadcast_to(jnp.asarray(value, x.dtype), x.shape)
