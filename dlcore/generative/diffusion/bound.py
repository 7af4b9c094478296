"""The variational bound of a diffusion in nats, with its three parts (lecture 29.3).

−log p(x_0) ≤ KL(q(x_T|x_0) ‖ N(0, I)) + Σ_{t=2}^T E KL(q(x_{t−1}|x_t, x_0) ‖ p(x_{t−1}|x_t)) + E[−log p(x_0|x_1)]
(Ho et al. 2020, eq. 5). Images lie in [−1, 1]: grey level k of L is −1 + 2k/(L − 1). Where `predict` knows the class,
everything is given y: a bound on −log p(x_0|y); `likelihood.joint_nats` makes it one on −log p(x_0, y) ≥ −log p(x_0).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from dlcore.generative.check import like_examples
from dlcore.generative.diffusion.objective import Predict
from dlcore.generative.diffusion.process import Gaussian, denoise, diffuse, posterior_weights, q_marginal, q_posterior
from dlcore.generative.diffusion.schedule import Schedule, at, told
from dlcore.losses import gaussian_nll
from dlcore.operands import equal_shapes
from dlcore.stats import kl_normal
from dlcore.types import Key

UNIFORM_SHARE = 0.1
"""Share of the uniform distribution in `time_distribution`, which keeps importance weights below 10 T."""


class Reverse(NamedTuple):
    """How a network's predictions make p(x_{t−1}|x_t) = N(μ(x_t, t), σ_t² I), μ being that of q(x_{t−1}|x_t, x̂_0)."""

    schedule: Schedule
    kind: str
    """What the network predicts: "eps", "x0" or "v"."""
    variance: str = "posterior"
    """σ_t² = β_t ("beta") or β̃_t ("posterior"), with β̃_2 at t = 1, where β̃ is 0."""
    clip: float | None = None
    """x̂_0 is cut to [−clip, clip]."""
    levels: int | None = None
    """Grey levels of the data; None for real values, whose x_0 has a density."""


class Bound(NamedTuple):
    """The three parts per example, in nats; the bound is their sum."""

    prior: Float[Array, " n"]
    divergence: Float[Array, " n"]
    reconstruction: Float[Array, " n"]

    def total(self) -> Float[Array, " n"]:
        """An upper bound on −log p(x_0), in expectation over the noise; on −log p(x_0|y) if `predict` was told y."""
        return self.prior + self.divergence + self.reconstruction


def reverse_variance(schedule: Schedule, name: str) -> Float[np.ndarray, " s"]:
    """σ_t² by name, "beta" or "posterior" (Ho et al. 2020, section 3.2); positive for all t ≥ 1.

    Raises `ValueError` for another name, and for a posterior variance with a single step, which would be 0.
    """
    if name == "beta":
        return schedule.beta
    if name != "posterior" or schedule.steps < 2:
        raise ValueError(f"variance must be beta or (for two steps or more) posterior, got {name!r}")
    variance = schedule.posterior_variance.copy()
    variance[1] = variance[2]
    return variance


def reverse_step(
    reverse: Reverse, x_t: Float[Array, "n *shape"], t: Int[Array, " n"], prediction: Float[Array, "n *shape"]
) -> Gaussian:
    """p(x_{t−1}|x_t): the posterior's mean at the predicted x_0, and σ_t²."""
    x0 = denoise(reverse.schedule, reverse.kind, x_t, t, prediction).x0
    x0 = x0 if reverse.clip is None else jnp.clip(x0, -reverse.clip, reverse.clip)
    of_data, of_noisy = posterior_weights(reverse.schedule)
    mean = at(of_data, t, x_t, first=1) * x0 + at(of_noisy, t, x_t, first=1) * x_t
    return Gaussian(mean, at(reverse_variance(reverse.schedule, reverse.variance), t, x_t, first=1))


def prior_divergence(schedule: Schedule, x0: Float[Array, "n *shape"]) -> Float[Array, " n"]:
    """KL(q(x_T|x_0) ‖ N(0, I))."""
    marginal = q_marginal(schedule, x0, jnp.full(len(x0), schedule.steps))
    return _total(kl_normal(marginal.mean, _log_std(marginal)))


def discretized_gaussian_nll(
    mean: Float[Array, "*s"], x: Float[Array, "*s"], std: Float[Array, "..."], levels: int
) -> Float[Array, "*s"]:
    """−log ∫ N(y; μ, σ²) dy over the cell of the grey level x in [−1, 1] (Ho et al. 2020, eq. 13).

    Cells reach half a level to either side, the outer ones to ±∞, so that all levels together have probability 1.
    Raises `ValueError` unless μ and x have one shape, and σ as well, or axes of 1, or none.
    """
    equal_shapes("discretized_gaussian_nll", mean=mean, x=x)
    if std.ndim and (std.ndim != x.ndim or any(s not in (1, n) for s, n in zip(std.shape, x.shape, strict=True))):
        raise ValueError(f"discretized_gaussian_nll: std has shape {std.shape} and x {x.shape}; give it axes of 1")
    half = 1 / (levels - 1)
    low = jnp.where(x < half - 1, -jnp.inf, (x - half - mean) / std)
    high = jnp.where(x > 1 - half, jnp.inf, (x + half - mean) / std)
    # Φ(b) − Φ(a) = Φ(−a) − Φ(−b): in the lower tail both have logarithms without cancellation.
    mirrored = low + high > 0
    low, high = jnp.where(mirrored, -high, low), jnp.where(mirrored, -low, high)
    log_high = jax.scipy.stats.norm.logcdf(high)
    return -log_high - jnp.log(-jnp.expm1(jax.scipy.stats.norm.logcdf(low) - log_high))


def term(
    reverse: Reverse,
    predict: Predict,
    x0: Float[Array, "n *shape"],
    t: Int[Array, " n"],
    eps: Float[Array, "n *shape"],
) -> Float[Array, " n"]:
    """The divergence at t ≥ 2 of the given noise, or the reconstruction −log p(x_0|x_1) at t = 1."""
    x_t = diffuse(reverse.schedule, x0, t, eps)
    p = reverse_step(reverse, x_t, t, predict(x_t, told(reverse.schedule, t)))
    q = q_posterior(reverse.schedule, x0, x_t, jnp.clip(t, min(2, reverse.schedule.steps), reverse.schedule.steps))
    divergence, std = kl_normal(q.mean, _log_std(q), p.mean, _log_std(p)), jnp.exp(_log_std(p))
    if reverse.levels is None:
        reconstruction = gaussian_nll(p.mean, x0, std)
    else:
        reconstruction = discretized_gaussian_nll(p.mean, x0, std, reverse.levels)
    first = (t == 1).reshape((-1,) + (1,) * (x0.ndim - 1))
    return _total(jnp.where(first, reconstruction, divergence))


def time_distribution(schedule: Schedule) -> Float[np.ndarray, " s"]:
    """p_t over t = 2 … T, in proportion to the terms that white Gaussian data have, and a tenth uniform.

    Their terms are ½ (SNR_{t−1} − SNR_t)/(1 + SNR_t) each dimension. Raises `ValueError` for a single step.
    """
    if schedule.steps < 2:
        raise ValueError("with one step there is no divergence between the steps to estimate")
    snr = schedule.snr[1:]
    white = (snr[:-1] - snr[1:]) / (1 + snr[1:])
    mixed = (1 - UNIFORM_SHARE) * white / white.sum() + UNIFORM_SHARE / len(white)
    return np.append([0.0, 0.0], mixed)


def spread(key: Key, rows: Int[Array, " n"]) -> Float[Array, " n"]:
    """One number in [0, 1) per row number, each uniform, all together evenly spread: frac(u + golden ratio · row).

    It depends on the key and the row alone, and the random shift u is shared.
    """
    steps: UInt32[Array, " n"] = rows.astype(jnp.uint32) * jnp.uint32(2654435769)
    bits = steps + jax.random.bits(key, (), jnp.uint32)
    return (bits >> 8).astype(jnp.float32) * 2.0**-24


def estimate(
    reverse: Reverse,
    predict: Predict,
    x0: Float[Array, "n *shape"],
    keys: Key,
    shares: Float[Array, " n"],
    *,
    draws: int = 1,
) -> Bound:
    """The bound from 1 + `draws` calls of `predict` per example, without bias.

    The reconstruction is computed always; the sum over t = 2 … T is estimated by Σ_j L_{t_j}/p_{t_j}/`draws`, with t_j
    from `time_distribution` at the fractions (share + j)/draws. `keys` holds one key per example, `shares` one number
    uniform in [0, 1) (see `spread`). Raises `ValueError` for fewer draws than one, and for other numbers of shares.
    """
    if draws < 1:
        raise ValueError(f"estimate: draws must be at least 1, got {draws}")
    like_examples("estimate", "shares", shares, x0)
    cumulative = np.cumsum(time_distribution(reverse.schedule)[1:]).astype(np.float32)
    weights = cumulative[-1] / np.append([np.inf, np.inf], np.diff(cumulative.astype(np.float64)))

    def noise(j: int) -> Array:
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, j), x0.shape[1:], x0.dtype))(keys)

    def divergence(j: int) -> Array:
        place = jnp.searchsorted(jnp.asarray(cumulative), (shares + j) / draws * cumulative[-1], side="right")
        t = jnp.clip(place + 1, 2, reverse.schedule.steps)
        return term(reverse, predict, x0, t, noise(j + 1)) * jnp.asarray(weights, x0.dtype)[t]

    reconstruction = term(reverse, predict, x0, jnp.ones(len(x0), jnp.int32), noise(0))
    return Bound(prior_divergence(reverse.schedule, x0), sum(map(divergence, range(draws))) / draws, reconstruction)


def all_terms(
    reverse: Reverse, predict: Predict, x0: Float[Array, "n *shape"], *, key: Key
) -> tuple[Float[Array, " n"], Float[Array, "t n"]]:
    """The prior's divergence, and the terms of every t = 1 … T with one draw of noise each; their sum is the bound.

    T calls of `predict`, one after the other.
    """

    @jax.jit
    def one(t: Array) -> Array:
        eps = jax.random.normal(jax.random.fold_in(key, t), x0.shape, x0.dtype)
        return term(reverse, predict, x0, jnp.full(len(x0), t), eps)

    terms = [one(jnp.int32(t)) for t in range(1, reverse.schedule.steps + 1)]
    return prior_divergence(reverse.schedule, x0), jnp.stack(terms)


def _log_std(distribution: Gaussian) -> Array:
    return jnp.broadcast_to(0.5 * jnp.log(distribution.variance), distribution.mean.shape)


def _total(x: Array) -> Array:
    return x.reshape(len(x), -1).sum(-1)
