"""Estimators studied over repeated samples: bias, variance, error, consistency, and the bootstrap (lecture 3.1–3.5).

An estimator is a function from a sample, whose first axis counts its m draws, to θ̂ of any shape. Repetitions run
`chunk` at a time under vmap, so that memory holds `chunk` samples. Repetition i uses `fold_in(key, i)`: results depend
neither on `chunk` nor on how many follow. Pass the same function object again, and nothing is compiled again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.setting import number
from dlcore.stats._special import mean_and_variance, root, wide
from dlcore.types import Key

Estimator = Callable[[Array], Array]
"""`sample [m, ...] -> θ̂`."""

Sampler = Callable[[Key, int], Array]
"""`(key, m) -> sample [m, ...]` of independent draws."""

CHUNK = 1000
"""Repetitions at a time unless told otherwise."""


class EstimatorStudy(NamedTuple):
    """What repeated samples say about an estimator; `mse` = `bias`² + `variance`, as all are means over the same."""

    bias: Float[Array, "..."]
    """E[θ̂] − θ."""
    variance: Float[Array, "..."]
    """E[(θ̂ − E[θ̂])²]."""
    mse: Float[Array, "..."]
    """E[(θ̂ − θ)²]."""
    standard_error: Float[Array, "..."]
    """Of the bias: √(variance/repeats)."""


def repeat(
    key: Key, sampler: Sampler, estimator: Estimator, m: int, repeats: int, *, chunk: int = CHUNK
) -> Float[Array, "repeats *s"]:
    """θ̂ of `repeats` independent samples of size m. Raises `ValueError` for counts below 1."""
    _check_counts(m=m, repeats=repeats, chunk=chunk)
    return _repeat(key, sampler, estimator, m, repeats, min(chunk, repeats))


def estimator_study(
    key: Key,
    sampler: Sampler,
    estimator: Estimator,
    truth: Float[Array, "*s"] | float,
    m: int,
    repeats: int = 10_000,
    *,
    chunk: int = CHUNK,
) -> EstimatorStudy:
    """Bias, variance and mean squared error of an estimator of `truth` from samples of size m.

    Raises `ValueError` for counts below 1 or a `truth` of another shape than θ̂.
    """
    return summarize(repeat(key, sampler, estimator, m, repeats, chunk=chunk), truth)


def summarize(estimates: Float[Array, "repeats *s"], truth: Float[Array, "..."] | float) -> EstimatorStudy:
    """Bias, variance and mean squared error of given estimates. Raises `ValueError` for a `truth` of another shape."""
    _check_truth(estimates, truth)
    errors = wide(estimates) - truth
    bias, variance = mean_and_variance(errors)
    return EstimatorStudy(bias, variance, jnp.square(errors).mean(0), root(variance / len(estimates)))


def consistency(
    key: Key,
    sampler: Sampler,
    estimator: Estimator,
    truth: Float[Array, "*s"] | float,
    sizes: Sequence[int],
    epsilon: float | Float[Array, ""],
    repeats: int = 10_000,
    *,
    chunk: int = CHUNK,
) -> Float[Array, "sizes *s"]:
    """P(|θ̂_m − θ| > ε) for every sample size m, which a consistent estimator brings to 0 (lecture 3.5).

    Compiles once per size. Raises `ValueError` for counts below 1, ε below 0, or a `truth` of another shape than θ̂.
    """
    number(epsilon, "consistency: epsilon", "[0, ∞)")

    def beyond(i: int, m: int) -> Array:
        estimates = repeat(jax.random.fold_in(key, i), sampler, estimator, m, repeats, chunk=chunk)
        _check_truth(estimates, truth)
        return wide((jnp.abs(estimates - truth) > epsilon).sum(0)) / repeats

    return jnp.stack([beyond(i, m) for i, m in enumerate(sizes)])


def bootstrap(
    key: Key, estimator: Estimator, sample: Float[Array, "m *s"], replicates: int = 10_000, *, chunk: int = CHUNK
) -> Float[Array, "replicates *t"]:
    """θ̂ of `replicates` samples of size m, each drawn from the given one with replacement (Efron 1979).

    Their standard deviation estimates that of θ̂, their quantiles its confidence interval. Raises `ValueError` for an
    empty sample or counts below 1.
    """
    _check_counts(m=len(sample), replicates=replicates, chunk=chunk)
    return _bootstrap(key, estimator, sample, replicates, min(chunk, replicates))


@partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _repeat(key: Key, sampler: Sampler, estimator: Estimator, m: int, repeats: int, chunk: int) -> Array:
    def one(i: Array) -> Array:
        return estimator(sampler(jax.random.fold_in(key, i), m))

    return jax.lax.map(one, jnp.arange(repeats), batch_size=chunk)


@partial(jax.jit, static_argnums=(1, 3, 4))
def _bootstrap(key: Key, estimator: Estimator, sample: Array, replicates: int, chunk: int) -> Array:
    def one(i: Array) -> Array:
        return estimator(sample[jax.random.randint(jax.random.fold_in(key, i), (len(sample),), 0, len(sample))])

    return jax.lax.map(one, jnp.arange(replicates), batch_size=chunk)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def _check_truth(estimates: Array, truth: Array | float) -> None:
    if jnp.shape(truth) not in ((), estimates.shape[1:]):
        raise ValueError(f"truth has shape {jnp.shape(truth)}, the estimates {estimates.shape[1:]}")
