"""The forward process, its posterior, and what a network may predict (lecture 29.1, 29.3).

Times are integers t = 1 … T, one per example; t indexes the tables of the schedule. A t outside them raises
`ValueError`, or gives NaN inside `jit`; so do x_0, ε, x_t or predictions of different shapes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dlcore.generative.diffusion.schedule import Schedule, at
from dlcore.operands import equal_shapes
from dlcore.types import Key

KINDS = ("eps", "x0", "v")
"""What a network may predict: the noise ε, the data x_0, or v = √ᾱ_t ε − √(1 − ᾱ_t) x_0."""


class Gaussian(NamedTuple):
    """N(mean, variance · I)."""

    mean: Float[Array, "n *shape"]
    variance: Float[Array, "n *ones"]


class Denoised(NamedTuple):
    """The two parts of x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε."""

    x0: Float[Array, "n *shape"]
    eps: Float[Array, "n *shape"]


def draw(key: Key, distribution: Gaussian) -> Float[Array, "n *shape"]:
    """One sample per example. Raises `ValueError` for a variance that would broadcast along the mean's axes unasked."""
    mean, variance = distribution
    if variance.ndim != mean.ndim or any(v not in (1, m) for v, m in zip(variance.shape, mean.shape, strict=True)):
        raise ValueError(f"draw: variance has shape {variance.shape} and mean {mean.shape}; give it axes of 1")
    return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape, mean.dtype)


def q_step(schedule: Schedule, x: Float[Array, "n *shape"], t: Int[Array, " n"]) -> Gaussian:
    """q(x_t|x_{t−1}) = N(√(1 − β_t) x_{t−1}, β_t I) (Ho et al. 2020, eq. 2)."""
    return Gaussian(at(np.sqrt(1 - schedule.beta), t, x, first=1) * x, at(schedule.beta, t, x, first=1))


def q_marginal(schedule: Schedule, x0: Float[Array, "n *shape"], t: Int[Array, " n"]) -> Gaussian:
    """q(x_t|x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I) (Ho et al. 2020, eq. 4)."""
    return Gaussian(at(schedule.signal, t, x0) * x0, at(1 - schedule.alpha_bar, t, x0))


def q_posterior(
    schedule: Schedule, x0: Float[Array, "n *shape"], x_t: Float[Array, "n *shape"], t: Int[Array, " n"]
) -> Gaussian:
    """q(x_{t−1}|x_t, x_0), with β̃_t = β_t (1 − ᾱ_{t−1})/(1 − ᾱ_t) as variance (Ho et al. 2020, eq. 6–7).

    Its mean is [√ᾱ_{t−1} β_t x_0 + √(1 − β_t) (1 − ᾱ_{t−1}) x_t]/(1 − ᾱ_t). At t = 1 it is x_0, for certain.
    """
    equal_shapes("q_posterior", x0=x0, x_t=x_t)
    of_data, of_noisy = posterior_weights(schedule)
    mean = at(of_data, t, x0, first=1) * x0 + at(of_noisy, t, x_t, first=1) * x_t
    return Gaussian(mean, at(schedule.posterior_variance, t, x_t, first=1))


def posterior_weights(schedule: Schedule) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """The weights of x_0 and of x_t in the mean of q(x_{t−1}|x_t, x_0)."""
    before, after, beta = schedule.alpha_bar[:-1], schedule.alpha_bar[1:], schedule.beta[1:]
    of_data = np.sqrt(before) * beta / (1 - after)
    of_noisy = np.sqrt(1 - beta) * (1 - before) / (1 - after)
    return np.append(0.0, of_data), np.append(0.0, of_noisy)


def diffuse(
    schedule: Schedule, x0: Float[Array, "n *shape"], t: Int[Array, " n"], eps: Float[Array, "n *shape"]
) -> Float[Array, "n *shape"]:
    """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε, for t = 0 … T."""
    equal_shapes("diffuse", x0=x0, eps=eps)
    return at(schedule.signal, t, x0) * x0 + at(schedule.noise, t, x0) * eps


def target(
    schedule: Schedule,
    kind: str,
    x0: Float[Array, "n *shape"],
    t: Int[Array, " n"],
    eps: Float[Array, "n *shape"],
) -> Float[Array, "n *shape"]:
    """What a network of this kind should have predicted: ε, x_0, or v (Salimans & Ho 2022, appendix D)."""
    _check(kind)
    equal_shapes("target", x0=x0, eps=eps)
    if kind == "v":
        return at(schedule.signal, t, x0) * eps - at(schedule.noise, t, x0) * x0
    return eps if kind == "eps" else x0


def denoise(
    schedule: Schedule,
    kind: str,
    x_t: Float[Array, "n *shape"],
    t: Int[Array, " n"],
    prediction: Float[Array, "n *shape"],
) -> Denoised:
    """Both x_0 and ε from a prediction of any kind, given x_t: the inverse of `target`.

    x_0 from ε is divided by √ᾱ_t, ε from x_0 by √(1 − ᾱ_t): either is badly rounded where that is near 0; v never is.
    """
    _check(kind)
    equal_shapes("denoise", x_t=x_t, prediction=prediction)
    signal, noise = at(schedule.signal, t, x_t, first=1), at(schedule.noise, t, x_t, first=1)
    if kind == "eps":
        return Denoised((x_t - noise * prediction) / signal, prediction)
    if kind == "x0":
        return Denoised(prediction, (x_t - signal * prediction) / noise)
    return Denoised(signal * x_t - noise * prediction, noise * x_t + signal * prediction)


def _check(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind of prediction must be one of {', '.join(KINDS)}, got {kind!r}")
