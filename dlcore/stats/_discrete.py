"""Mass functions: Bernoulli, categorical, the discretised logistic and its mixture (lecture 2.13–2.15, 23)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from dlcore.stats import _discretized as discretized
from dlcore.stats._distribution import Distribution, batch_shape, check_outcome
from dlcore.stats._information import log_entropy, log_kl
from dlcore.stats._special import log_softmax, wide
from dlcore.types import Key, Params


def _bernoulli_logs(params: Params) -> Array:
    """log P(0) and log P(1), on a last axis."""
    logit = wide(params["logit"])
    return jnp.stack([jax.nn.log_sigmoid(-logit), jax.nn.log_sigmoid(logit)], -1)


def _categorical_logs(params: Params) -> Array:
    return log_softmax(wide(params["logits"]))


def _bernoulli_sample(key: Key, params: Params, shape: tuple[int, ...] = ()) -> Array:
    probability = jax.nn.sigmoid(wide(params["logit"]))
    # "high": probabilities below 1e-7 are drawn as rarely as they say.
    return jax.random.bernoulli(key, probability, (*shape, *batch_shape(params)), "high").astype(jnp.int32)


def _categorical_sample(key: Key, params: Params, shape: tuple[int, ...] = ()) -> Array:
    logits = wide(params["logits"])
    return jax.random.categorical(key, logits, shape=(*shape, *batch_shape(params, 1)), mode="high")


def _inside(x: ArrayLike, size: int) -> tuple[Array, Array]:
    """0 at the x among 0 … size − 1, −∞ at the others, NaN at NaN; and x with the others set to 0."""
    x = jnp.asarray(x)
    inside = (x >= 0) & (x < size) & (x == jnp.floor(x))
    return jnp.where(inside, 0.0, jnp.where(jnp.isnan(x), jnp.nan, -jnp.inf)), jnp.where(inside, x, 0).astype(jnp.int32)


def _picker(logs: Callable[[Params], Array], events: int) -> Callable[[Params, ArrayLike], Array]:
    """`log_prob` of the family on 0 … k − 1 whose log-masses, on a last axis, `logs` gives."""

    def log_prob(params: Params, x: ArrayLike) -> Array:
        check_outcome(params, x, events)
        masses = logs(params)
        outside, place = _inside(x, masses.shape[-1])
        shape = jnp.broadcast_shapes(place.shape, masses.shape[:-1])
        masses, place = jnp.broadcast_to(masses, (*shape, masses.shape[-1])), jnp.broadcast_to(place, shape)
        found = jnp.take_along_axis(masses, place[..., None], axis=-1)[..., 0]
        return jnp.where(outside == 0, found, outside)

    return log_prob


def _finite(
    log_prob: Callable[[Params, ArrayLike], Array], sample: Callable[..., Array], logs: Callable[[Params], Array]
) -> Distribution:
    """A family on 0 … k − 1, whose entropy and divergence are exact sums over all log-masses `logs`."""
    return Distribution(log_prob, sample, lambda p: log_entropy(logs(p)), lambda p, q: log_kl(logs(p), logs(q)))


bernoulli = _finite(_picker(_bernoulli_logs, 0), _bernoulli_sample, _bernoulli_logs)
"""P(1) = σ(a) on {0, 1}: `logit` a, which may be ±∞."""

categorical = _finite(_picker(_categorical_logs, 1), _categorical_sample, _categorical_logs)
"""P(k) = softmax(a)_k on 0 … c − 1: `logits` a [..., c], some of which may be −∞."""


def discretized_logistic(levels: int) -> Distribution:
    """Grey levels 0 … L − 1 of `discretized.logistic_log_mass`: `mean` in [−1, 1], `log_scale`.

    Raises `ValueError` for fewer than 2 levels.
    """
    mixture = discretized_logistic_mixture(levels)

    def single(params: Params) -> Params:
        shape = batch_shape(params)
        parts = {name: jnp.broadcast_to(wide(params[name]), shape)[..., None] for name in ("mean", "log_scale")}
        return {"logits": jnp.zeros((*shape, 1), parts["mean"].dtype), **parts}

    return Distribution(
        lambda params, x: mixture.log_prob(single(params), x),
        lambda key, params, shape=(): mixture.sample(key, single(params), shape),
        lambda params: mixture.entropy(single(params)),
        lambda params, others: mixture.kl(single(params), single(others)),
    )


def discretized_logistic_mixture(levels: int) -> Distribution:
    """Grey levels 0 … L − 1 of `discretized.mixture_log_mass`: `logits`, `mean` and `log_scale` [..., m].

    Entropy and divergence are sums over all levels. Raises `ValueError` for fewer than 2 levels.
    """
    if levels < 2:
        raise ValueError(f"a discretised logistic needs at least 2 levels, got {levels}")
    names = ("logits", "mean", "log_scale")

    def parts(params: Params, batch: tuple[int, ...]) -> list[Array]:
        return [jnp.broadcast_to(wide(params[name]), (*batch, components(params)[-1])) for name in names]

    def components(params: Params) -> tuple[int, ...]:
        shapes = {name: jnp.shape(params[name]) for name in names}
        if len({shape[-1:] for shape in shapes.values() if shape}) > 1:
            raise ValueError(f"discretized_logistic_mixture: numbers of components differ, got shapes {shapes}")
        return (*batch_shape(params, 1), *max(shapes.values(), key=len)[-1:])

    def log_prob(params: Params, x: ArrayLike) -> Array:
        check_outcome(params, x, 1)
        outside, place = _inside(x, levels)
        batch = jnp.broadcast_shapes(place.shape, components(params)[:-1])
        masses = discretized.mixture_log_mass(jnp.broadcast_to(place, batch), *parts(params, batch), levels)
        return jnp.where(outside == 0, masses, outside)

    def logs(params: Params) -> Array:
        every = {name: jnp.expand_dims(params[name], -2) for name in names}
        return log_prob(every, jnp.arange(levels))

    def sample(key: Key, params: Params, shape: tuple[int, ...] = ()) -> Array:
        return discretized.mixture_sample(key, *parts(params, (*shape, *components(params)[:-1])), levels)

    return _finite(log_prob, sample, logs)
