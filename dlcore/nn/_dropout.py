"""Dropout (lecture 12.4–12.8)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn._training_noise import training_noise
from dlcore.setting import Number, number, whole
from dlcore.types import Key, Model


def dropout(
    x: Float[Array, "..."], rate: Number, *, key: Key, broadcast_axes: Sequence[int] = ()
) -> Float[Array, "..."]:
    """Set each unit to 0 with probability `rate` and divide the others by 1 − rate, which keeps the mean.

    One mask is shared along `broadcast_axes` (e.g. the spatial axes, to drop whole feature maps). Source: Srivastava et
    al. 2014, in the inverted form. The rate may be traced; its gradient is that of the factor 1/(1 − rate). Raises
    `ValueError` unless 0 ≤ rate < 1, where it is known.
    """
    check_rate(rate)
    shared = {_axis(axis, x.ndim) for axis in broadcast_axes}
    shape = [1 if axis in shared else size for axis, size in enumerate(x.shape)]
    kept = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros_like(x))


def _axis(axis: int, axes: int) -> int:
    place = whole(axis, "dropout: broadcast_axes", least=-axes)
    if place >= axes:
        raise ValueError(f"dropout: broadcast_axes has {axis}, but the input only {axes} axes")
    return place % axes


def drop(x: Float[Array, "..."], rate: Number, *, key: Key) -> Float[Array, "..."]:
    """Set each unit to 0 with probability `rate` and keep the others as they are: dropout as it was first written.

    Its mean is (1 − rate) x, which `scale_weights` makes up for at inference.
    """
    check_rate(rate)
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x, jnp.zeros_like(x))


def scale_weights(kernel: Float[Array, "..."], rate: Number) -> Float[Array, "..."]:
    """(1 − rate) W, for the weights out of units that `drop` has trained (Srivastava et al. 2014, section 4).

    Every unit then gives what it gave in the mean. For a softmax of a linear model it is exactly the normalised
    geometric mean of the predictions of all 2ⁿ masks at rate ½, and for any rate if every mask has the weight of its
    probability.
    """
    check_rate(rate)
    return jnp.asarray(1 - rate, kernel.dtype) * kernel


def Dropout(rate: Number, *, broadcast_axes: Sequence[int] = ()) -> Model:
    """`dropout` in training, the identity otherwise.

    Raises `ValueError` for a rate outside [0, 1), axes that are none, and when it is to train without a key.
    """
    check_rate(rate)
    if isinstance(broadcast_axes, str) or not isinstance(broadcast_axes, Sequence):
        raise ValueError(f"Dropout: broadcast_axes must be a tuple of axes such as (1, 2), got {broadcast_axes!r}")

    def draw(x: Array, key: Key) -> Array:
        return dropout(x, rate, key=key, broadcast_axes=broadcast_axes)

    return training_noise("Dropout", "dropout", rate, draw)


def check_rate(rate: Number) -> None:
    """Raises `ValueError` unless 0 ≤ rate < 1, where it is known."""
    number(rate, "dropout rate", "[0, 1)")
