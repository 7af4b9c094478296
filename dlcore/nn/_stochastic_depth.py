"""Stochastic depth: residual branches that are dropped as a whole (lecture 12.4, 16)."""

from jaxtyping import Array, Float

from dlcore.nn._dropout import check_rate, dropout
from dlcore.nn._training_noise import training_noise
from dlcore.setting import Number, whole
from dlcore.types import Key, Model


def stochastic_depth(x: Float[Array, "b ..."], rate: Number, *, key: Key) -> Float[Array, "b ..."]:
    """Set each example to 0 with probability `rate` and divide the others by 1 − rate, which keeps the mean.

    Source: Huang et al. 2016, in the inverted form. Raises `ValueError` unless 0 ≤ rate < 1.
    """
    return dropout(x, rate, key=key, broadcast_axes=range(1, x.ndim))


def StochasticDepth(rate: Number) -> Model:
    """`stochastic_depth` in training, the identity otherwise; the last layer of a residual branch.

    Raises `ValueError` when it is to train without a key, or for a rate outside [0, 1).
    """
    check_rate(rate)
    return training_noise(
        "StochasticDepth", "stochastic_depth", rate, lambda x, key: stochastic_depth(x, rate, key=key)
    )


def linear_rates(last: Number, count: int) -> tuple[Number, ...]:
    """`count` rates that grow from 0 at the first block to `last` at the last one (Huang et al. 2016, eq. 4)."""
    check_rate(last)
    return tuple(last * i / (count - 1) if i else 0.0 for i in range(whole(count, "linear_rates: count", least=0)))
