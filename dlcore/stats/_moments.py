"""Expectation, variance and standard deviation under a mass function, a density and samples (lecture 2.11–2.12).

Each takes the values f(x) of what is averaged, so that f is applied by the caller: x itself, x², an indicator.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num, Shaped

from dlcore.stats._check import check_pmf
from dlcore.stats._special import mean_and_variance, root, wide
from dlcore.stats.density import Density, marginalize
from dlcore.types import Params


class Moments(NamedTuple):
    """E[f], Var[f] = E[(f − E[f])²] and its square root, whose derivative where the variance is 0 is 0."""

    mean: Float[Array, "..."]
    variance: Float[Array, "..."]
    std: Float[Array, "..."]


def pmf_moments(values: Num[ArrayLike, "..."], probabilities: Num[ArrayLike, "..."]) -> Moments:
    """Moments of f under a mass function p over the same places: E[f] = Σ p f.

    Raises `ValueError` for different shapes or a p that is no distribution (not looked at under jit).
    """
    if jnp.shape(values) != jnp.shape(probabilities):
        shapes = jnp.shape(values), jnp.shape(probabilities)
        raise ValueError(f"pmf_moments: values of shape {shapes[0]}, probabilities {shapes[1]}")
    check_pmf(probabilities, "probabilities")
    return _moments(values, lambda f: (wide(probabilities) * f).sum())


def density_moments(values: Num[ArrayLike, "..."], density: Density) -> Moments:
    """Moments of f, given at the points of the grid, under a gridded density: E[f] = ∫ p f by the trapezoid rule.

    Raises `ValueError` for different shapes.
    """
    if jnp.shape(values) != density.values.shape:
        raise ValueError(f"density_moments: values of shape {jnp.shape(values)}, the density {density.values.shape}")
    return _moments(values, lambda f: marginalize(density._replace(values=density.values * f), *density.axes).values)


def sample_moments(values: Shaped[ArrayLike, "m *s"], *, unbiased: bool = False) -> Moments:
    """Moments over the first axis; the variance by 1/m, or by 1/(m − 1) if `unbiased`.

    Of numbers of any dtype, in at least single precision. Raises `ValueError` for no sample, or a single one where
    m − 1 divides.
    """
    if len(values) < 1 + unbiased:
        raise ValueError(f"sample_moments: {len(values)} samples are too few")
    mean, variance = mean_and_variance(values, ddof=int(unbiased))
    return Moments(mean, variance, root(variance))


def log_likelihood(log_prob: Callable[[Params, Any], Array], params: Params, samples: Any) -> Float[Array, ""]:
    """log p(x₁, …, x_m) = Σ_i log p(x_i) of independent, identically distributed samples, in nats (lecture 2.9)."""
    return wide(log_prob(params, samples)).sum()


def _moments(values: ArrayLike, expect: Callable[[Array], Array]) -> Moments:
    values = wide(values)
    origin = jax.lax.stop_gradient(expect(values))
    away, mass = values - origin, expect(jnp.ones_like(values))
    shift = expect(away)
    variance = expect(jnp.square(away - shift / mass))
    return Moments(origin * mass + shift, variance, root(variance))
