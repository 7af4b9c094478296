"""What every family of distributions is: a tuple of pure functions of its parameters (lecture 2.13–2.15, 3.6)."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.types import Key, Params

LOG_SCALE_LIMIT = 40.0
"""Log-scales are clamped to ± this, with gradient 0 beyond: e^{±40} and its square stay within float32."""


class Distribution(NamedTuple):
    """A family of distributions; `params` is a dict of real arrays without constraints, as its file says.

    Scalar families read parameters element by element and broadcast them; those of vectors take their last axis.
    Values in nats. `entropy` and `kl` are None where there is no closed form; then see `monte_carlo_kl`.
    """

    log_prob: Callable[[Params, Any], Array]
    """`log_prob(params, x)`: log density or mass, −∞ outside the support."""
    sample: Callable[..., Array]
    """`sample(key, params, shape=())`: draws of shape `shape`, then the batch of the parameters, then the event."""
    entropy: Callable[[Params], Array] | None
    """`entropy(params)`: −E[log p(x)], for densities the differential entropy."""
    kl: Callable[[Params, Params], Array] | None
    """`kl(params, others)`: KL(p ‖ q) of two members of the family."""


class Estimate(NamedTuple):
    """A Monte-Carlo mean and its standard error, sd/√n."""

    mean: Float[Array, "..."]
    standard_error: Float[Array, "..."]


def independent(family: Distribution) -> Distribution:
    """Vectors whose elements, on the last axis, are independent: log-densities, entropies and divergences add up."""

    def total(function: Callable[..., Array] | None) -> Callable[..., Array] | None:
        return function and (lambda *arguments: function(*arguments).sum(-1))

    return Distribution(total(family.log_prob), family.sample, total(family.entropy), total(family.kl))


def monte_carlo(values: Float[Array, "n *b"]) -> Estimate:
    """The mean of n independent draws of a statistic and its standard error; both +∞ if some draw is."""
    if len(values) < 2:
        raise ValueError(f"monte_carlo: a standard error needs at least 2 draws, got {len(values)}")
    infinite = jnp.isposinf(values).any(0)
    kept = jnp.where(infinite, 0.0, values)
    error = kept.std(0, ddof=1) / math.sqrt(len(values))
    return Estimate(*(jnp.where(infinite, jnp.inf, x) for x in (kept.mean(0), error)))


def monte_carlo_kl(
    key: Key, family: Distribution, params: Params, other: Distribution, others: Params, samples: int
) -> Estimate:
    """KL(p ‖ q) = E_p[log p(x) − log q(x)] from draws of p, of any two families with the same outcomes (lecture 2.15).

    +∞ when a draw of p is impossible under q. Raises `ValueError` for fewer than 2 samples.
    """
    x = family.sample(key, params, (samples,))
    return monte_carlo(family.log_prob(params, x) - other.log_prob(others, x))


def batch_shape(params: Mapping[str, Array], events: int = 0) -> tuple[int, ...]:
    """The broadcast shape of the parameters without their last `events` axes."""
    shapes = (jnp.shape(x) for x in params.values())
    return jnp.broadcast_shapes(*(shape[: len(shape) - events] for shape in shapes))


def clamp_log_scale(log_scale: Float[Array, "*s"], limit: float = LOG_SCALE_LIMIT) -> Float[Array, "*s"]:
    """log s within ± `limit`."""
    bound = jnp.asarray(limit, log_scale.dtype)
    # Not jnp.clip, whose gradient multiplies by 0: an infinite one would turn into NaN.
    return jax.lax.clamp(-bound, log_scale, bound)
