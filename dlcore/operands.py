"""What goes into a loss, a metric or a mean: its shapes, its mask, its labels and its precision (lecture 3).

Shapes that would broadcast are refused when a program is traced. Values can only be looked at outside `jit`, `grad` and
`vmap`: there a bad one raises; what becomes of it inside is said by each function.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import AbstractDtype, Array, Bool, Integer, Shaped


class Discrete(AbstractDtype):
    """A bool or an integer of any width: the dtypes of labels, and of masks, where 0 is False."""

    dtypes = (*Bool.dtypes, *Integer.dtypes)


def known(*arrays: Any) -> bool:
    """Whether the values can be looked at: none is traced, or held by another process."""
    return not any(isinstance(x, jax.core.Tracer) or not getattr(x, "is_fully_addressable", True) for x in arrays)


def wide(x: Shaped[Array, "*s"], function: str = "wide") -> Shaped[Array, "*s"]:
    """`x` in float32, or in float64 if it is: integers do not wrap and half precision neither overflows nor rounds.

    Raises `ValueError`, naming the `function`, for complex numbers.
    """
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise ValueError(f"{function}: expected real numbers, got {x.dtype}; pass real and imaginary parts")
    return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))


def magnitude(x: Shaped[Array, "*s"]) -> Shaped[Array, "*s"]:
    """|x| with gradient 0 at 0, the subgradient of least size; that of `jnp.abs` is 1 there."""
    return x * jax.lax.stop_gradient(jnp.sign(x))


def equal_shapes(function: str, **arrays: Any) -> tuple[int, ...]:
    """The one shape of all arrays. Raises `ValueError` naming the shapes when they differ."""
    shapes = {name: jnp.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{function}: shapes must be equal, nothing is broadcast, got {listed}; reshape or index one")
    return next(iter(shapes.values()))


def marks(
    function: str, where: Shaped[Array, "..."] | None, shape: tuple[int, ...], *, prefix: bool = False
) -> Bool[Array, "..."] | None:
    """The mask as bools of `shape`; with `prefix` it may lack trailing axes, over which it is repeated.

    Raises `ValueError` for another shape and for a mask of floats.
    """
    if where is None:
        return None
    given, dtype = jnp.shape(where), jnp.result_type(where)
    if not (dtype == jnp.bool_ or jnp.issubdtype(dtype, jnp.integer)):
        raise ValueError(f"{function}: where must be bool, got {dtype}; compare with a number to make it one")
    if given != (shape[: max(len(given), 1)] if prefix else shape):
        wanted = f"{shape} or that of its leading axes" if prefix else f"{shape}"
        raise ValueError(f"{function}: where has shape {given}, expected {wanted}; nothing is broadcast")
    where = jnp.asarray(where, bool)
    return jnp.broadcast_to(where.reshape(given + (1,) * (len(shape) - len(given))), shape) if prefix else where


def safe(x: Shaped[Array, "*s"], where: Bool[Array, "*s"] | None, fill: float = 0.0) -> Shaped[Array, "*s"]:
    """`x` with what lies outside `where` replaced beforehand, so that it has gradient 0 even where it is NaN."""
    return x if where is None else jnp.where(where, x, fill)


def masked(loss: Shaped[Array, "*s"], where: Bool[Array, "*s"] | None) -> Shaped[Array, "*s"]:
    """The loss where `where` holds (or everywhere), 0 elsewhere."""
    return loss if where is None else jnp.where(where, loss, 0.0)


def class_labels(
    function: str,
    labels: Discrete[Array, "..."],
    shape: tuple[int, ...],
    classes: int,
    *,
    ignore: int | None = None,
    where: Discrete[Array, "..."] | None = None,
    name: str = "labels",
) -> tuple[Array, Bool[Array, "..."], Bool[Array, "..."] | None]:
    """(index, inside, counted): labels of `shape`, 0 for those outside 0 … classes − 1, which ones lie inside, and
    which ones count because `where` marks them and they are not `ignore` (None: all).

    Raises `ValueError` for floats and another shape, and outside `jit` for a label that counts but lies outside.
    """
    given, dtype = jnp.shape(labels), jnp.result_type(labels)
    if not (dtype == jnp.bool_ or jnp.issubdtype(dtype, jnp.integer)):
        raise ValueError(f"{function}: {name} must be integers, got {dtype} of shape {given}; use astype('int32')")
    if given != shape:
        raise ValueError(f"{function}: {name} have shape {given}, expected {shape}; nothing is broadcast")
    counted = marks(function, where, shape)
    if known(labels, where):
        _check_labels(function, np.asarray(labels), classes, ignore, where, name)
    index = jnp.asarray(labels, jnp.promote_types(dtype, jnp.int32))
    if ignore is not None:
        kept = index != ignore
        counted = kept if counted is None else counted & kept
    inside = (index >= 0) & (index < classes)
    return jnp.where(inside, index, 0), inside, counted


def _check_labels(function: str, labels: Any, classes: int, ignore: int | None, where: Any, name: str) -> None:
    labels = labels.astype(np.int64)
    bad = (labels < 0) | (labels >= classes)
    if ignore is not None:
        bad &= labels != ignore
    if where is not None:
        bad &= np.asarray(where) != 0
    if bad.any():
        found = ", ".join(map(str, np.unique(labels[bad])[:5]))
        raise ValueError(
            f"{function}: {int(bad.sum())} {name} lie outside 0 … {classes - 1}: {found}; "
            "correct them, or pass the label to leave out as ignore="
        )


def has_shape(name: str, argument: str, array: Any, shape: Sequence[int], reason: str) -> None:
    """Raises `ValueError`, naming both shapes and the reason, unless the array has that shape."""
    if shape_of(array) != tuple(shape):
        raise ValueError(f"{name}: {argument} has shape {shape_of(array)}; it must be {tuple(shape)}, {reason}")


def shape_of(array: Any) -> tuple[int, ...]:
    """The shape of an array, a shape struct, or a number."""
    return tuple(array.shape) if hasattr(array, "shape") else np.shape(array)
