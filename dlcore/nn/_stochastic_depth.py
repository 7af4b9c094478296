"""Stochastic depth: residual branches that are dropped as a whole (lecture 12.4, 16)."""

from jaxtyping import Array, Float

from dlcore.nn._dropout import Dropout, dropout
from dlcore.setting import Number, known
from dlcore.types import Input, Key, Model, Params, State


def stochastic_depth(x: Float[Array, "b ..."], rate: Number, *, key: Key) -> Float[Array, "b ..."]:
    """Set each example to 0 with probability `rate` and divide the others by 1 − rate, which keeps the mean.

    Source: Huang et al. 2016, in the inverted form. Raises `ValueError` unless 0 ≤ rate < 1.
    """
    return dropout(x, rate, key=key, broadcast_axes=range(1, x.ndim))


def StochasticDepth(rate: Number) -> Model:
    """`stochastic_depth` in training, the identity otherwise; the last layer of a residual branch.

    Raises `ValueError` when it is to train without a key, or for a rate outside [0, 1).
    """
    Dropout(rate)
    off = known(rate) == 0

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return {}, {}

    def apply(
        params: Params, state: State, x: Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array, State]:
        if not train or off:
            return x, state
        if key is None:
            raise ValueError("StochasticDepth: train=True needs a key; pass key=jax.random.key(...) to apply")
        return stochastic_depth(x, rate, key=key), state

    return Model(init, apply, "stochastic_depth")


def linear_rates(last: Number, count: int) -> tuple[Number, ...]:
    """`count` rates that grow from 0 at the first block to `last` at the last one (Huang et al. 2016, eq. 4)."""
    return tuple(last * i / (count - 1) if i else 0.0 for i in range(count))
