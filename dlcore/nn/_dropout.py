"""Dropout (lecture 12.4–12.8)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.setting import Number, known
from dlcore.types import Input, Key, Model, Params, State


def dropout(
    x: Float[Array, "..."], rate: Number, *, key: Key, broadcast_axes: Sequence[int] = ()
) -> Float[Array, "..."]:
    """Set each unit to 0 with probability `rate` and divide the others by 1 − rate, which keeps the mean.

    One mask is shared along `broadcast_axes` (e.g. the spatial axes, to drop whole feature maps). Source: Srivastava et
    al. 2014, in the inverted form. The rate may be traced; its gradient is that of the factor 1/(1 − rate). Raises
    `ValueError` unless 0 ≤ rate < 1, where it is known.
    """
    _check(rate)
    shape = [1 if axis in {a % x.ndim for a in broadcast_axes} else size for axis, size in enumerate(x.shape)]
    kept = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros_like(x))


def drop(x: Float[Array, "..."], rate: Number, *, key: Key) -> Float[Array, "..."]:
    """Set each unit to 0 with probability `rate` and keep the others as they are: dropout as it was first written.

    Its mean is (1 − rate) x, which `scale_weights` makes up for at inference.
    """
    _check(rate)
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x, jnp.zeros_like(x))


def scale_weights(kernel: Float[Array, "..."], rate: Number) -> Float[Array, "..."]:
    """(1 − rate) W, for the weights out of units that `drop` has trained (Srivastava et al. 2014, section 4).

    Every unit then gives what it gave in the mean. For a softmax of a linear model it is exactly the normalised
    geometric mean of the predictions of all 2ⁿ masks at rate ½, and for any rate if every mask has the weight of its
    probability.
    """
    _check(rate)
    return jnp.asarray(1 - rate, kernel.dtype) * kernel


def Dropout(rate: Number, *, broadcast_axes: Sequence[int] = ()) -> Model:
    """`dropout` in training, the identity otherwise. Raises `ValueError` when it is to train without a key."""
    _check(rate)
    off = known(rate) == 0

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return {}, {}

    def apply(
        params: Params, state: State, x: Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array, State]:
        if not train or off:
            return x, state
        if key is None:
            raise ValueError("Dropout: train=True needs a key; pass key=jax.random.key(...) to apply")
        return dropout(x, rate, key=key, broadcast_axes=broadcast_axes), state

    return Model(init, apply, "dropout")


def _check(rate: Number) -> None:
    if (value := known(rate)) is not None and not 0 <= value < 1:
        raise ValueError(f"dropout rate must lie in [0, 1), got {rate}")
