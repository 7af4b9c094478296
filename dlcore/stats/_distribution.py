"""What every family of distributions is: a tuple of pure functions of its parameters (lecture 2.13–2.15, 3.6)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num

from dlcore.stats._check import check_same_batch
from dlcore.stats._special import mean_and_variance, root, wide
from dlcore.types import Key, Params

LOG_SCALE_LIMIT = 40.0
"""Log-scales are clamped to ± this, with gradient 0 beyond: e^{±40} and its square stay within float32."""


class Distribution(NamedTuple):
    """A family of distributions; `params` is a dict of real arrays without constraints, as its file says.

    Parameters and samples may be arrays or plain numbers. Scalar families broadcast the parameters with one another
    and with x by NumPy's rules, so that draws of shape [n, batch] fit, and raise `ValueError` where those do not go;
    those of vectors take their last axis, whose size must be the same in both. Values in nats, in at least single
    precision. `entropy` and `kl` are None where there is no closed form; then see `monte_carlo_kl`.
    """

    log_prob: Callable[[Params, Any], Array]
    """`log_prob(params, x)`: log density or mass, −∞ outside the support."""
    sample: Callable[..., Array]
    """`sample(key, params, shape=())`: draws of shape `shape`, then the batch of the parameters, then the event."""
    entropy: Callable[[Params], Array] | None
    """`entropy(params)`: −E[log p(x)], for densities the differential entropy."""
    kl: Callable[[Params, Params], Array] | None
    """`kl(params, others)`: KL(p ‖ q) of two members of the family.

    Their batches have the same rank, and broadcast only over axes of size 1, or one is a single member: else
    `ValueError`.
    """


class Estimate(NamedTuple):
    """A Monte-Carlo mean and its standard error, sd/√n."""

    mean: Float[Array, "..."]
    standard_error: Float[Array, "..."]


def independent(family: Distribution) -> Distribution:
    """Vectors whose elements, on the last axis, are independent: log-densities, entropies and divergences add up.

    Raises `ValueError` for vectors of another size than the parameters'.
    """

    def shape_of(params: Params) -> tuple[int, ...]:
        shape = _draw_shape(family, params)
        if not shape:
            raise ValueError("independent: the parameters of vectors need an axis for their elements, and have none")
        return shape

    def log_prob(params: Params, x: ArrayLike) -> Array:
        (*_, size) = shape_of(params)
        if jnp.shape(x)[-1:] != (size,):
            raise ValueError(f"independent: x of shape {jnp.shape(x)} holds no vectors of {size} elements")
        return family.log_prob(params, x).sum(-1)

    def kl(params: Params, others: Params) -> Array:
        own, theirs = shape_of(params), shape_of(others)
        if own[-1] != theirs[-1]:
            raise ValueError(f"independent: vectors of shapes {own} and {theirs} have different numbers of elements")
        check_same_batch("kl", {"params": own[:-1], "others": theirs[:-1]})
        # A single vector gets the axes of the other's batch.
        params, others = (
            {name: jnp.reshape(value, (1,) * missing + jnp.shape(value)) for name, value in p.items()}
            for p, missing in ((params, max(len(theirs) - len(own), 0)), (others, max(len(own) - len(theirs), 0)))
        )
        return family.kl(params, others).sum(-1)

    def entropy(params: Params) -> Array:
        shape_of(params)
        return family.entropy(params).sum(-1)

    return Distribution(log_prob, family.sample, family.entropy and entropy, family.kl and kl)


def monte_carlo(values: Float[Array, "n *b"]) -> Estimate:
    """The mean of n independent draws of a statistic and its standard error; both +∞ if some draw is."""
    if len(values) < 2:
        raise ValueError(f"monte_carlo: a standard error needs at least 2 draws, got {len(values)}")
    infinite = jnp.isposinf(values).any(0)
    mean, variance = mean_and_variance(jnp.where(infinite, 0.0, values), ddof=1)
    return Estimate(*(jnp.where(infinite, jnp.inf, x) for x in (mean, root(variance / len(values)))))


def monte_carlo_kl(
    key: Key, family: Distribution, params: Params, other: Distribution, others: Params, samples: int
) -> Estimate:
    """KL(p ‖ q) = E_p[log p(x) − log q(x)] from draws of p, of any two families with the same outcomes (lecture 2.15).

    +∞ when a draw of p is impossible under q. Raises `ValueError` for fewer than 2 samples, or batches that differ.
    """
    check_same_batch("monte_carlo_kl", {"p": _draw_shape(family, params), "q": _draw_shape(other, others)})
    x = family.sample(key, params, (samples,))
    return monte_carlo(family.log_prob(params, x) - other.log_prob(others, x))


def _draw_shape(family: Distribution, params: Params) -> tuple[int, ...]:
    return jax.eval_shape(lambda p: family.sample(jax.random.key(0), p), params).shape


def batch_shape(params: Mapping[str, ArrayLike], events: int = 0) -> tuple[int, ...]:
    """The broadcast shape of the parameters without their last `events` axes."""
    shapes = (jnp.shape(x) for x in params.values())
    return jnp.broadcast_shapes(*(shape[: len(shape) - events] for shape in shapes))


def check_outcome(params: Mapping[str, ArrayLike], x: ArrayLike, events: int = 0) -> None:
    """Raises `ValueError`, naming the shapes, for an x that does not broadcast with the batch of the parameters."""
    batch, shape = batch_shape(params, events), jnp.shape(x)
    if any(n != m and 1 not in (n, m) for n, m in zip(reversed(batch), reversed(shape), strict=False)):
        raise ValueError(f"log_prob: x of shape {shape} does not go with parameters of shape {batch}")


def clamp_log_scale(log_scale: Num[ArrayLike, "*s"], limit: float = LOG_SCALE_LIMIT) -> Float[Array, "*s"]:
    """log s within ± `limit`, in at least single precision."""
    log_scale = wide(log_scale)
    bound = jnp.asarray(limit, log_scale.dtype)
    # Not jnp.clip, whose gradient multiplies by 0: an infinite one would turn into NaN.
    return jax.lax.clamp(-bound, log_scale, bound)
