"""The logistic distribution over grey levels, and mixtures of it (lecture 2.13, 23; Salimans et al. 2017, eq. 2).

Level k of L stands for the interval of width 2/(L − 1) around x_k = 2k/(L − 1) − 1 in [−1, 1]; level 0 takes all mass
below it and level L − 1 all above, so that the L masses sum to 1.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dlcore.types import Key

LOG_SCALE_LIMIT = 40.0
"""Log-scales are clipped to ± this: e^{±40} and its products stay within float32."""


def logistic_log_mass(
    level: Int[Array, "*s"], mean: Float[Array, "*s"], log_scale: Float[Array, "*s"], levels: int
) -> Float[Array, "*s"]:
    """log P(k) = log(σ(h) − σ(l)) with h, l = (x_k ± δ − μ)/s, δ = 1/(L − 1), in nats.

    Finite with its gradient for |μ| ≤ 1e15 at any scale.
    Computed as log σ(h) + log σ(−l) + log(1 − e^{l − h}), the same without a difference of near-equal numbers.
    """
    half = 1.0 / (levels - 1)
    centred = level * (2 * half) - 1 - mean
    inverse = jnp.exp(-jnp.clip(log_scale, -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT))
    below_high = jax.nn.log_sigmoid((centred + half) * inverse)
    above_low = jax.nn.log_sigmoid((half - centred) * inverse)
    inner = below_high + above_low + jnp.log(-jnp.expm1(-2 * half * inverse))
    return jnp.where(level == 0, below_high, jnp.where(level == levels - 1, above_low, inner))


def mixture_log_mass(
    level: Int[Array, "*s"],
    logits: Float[Array, "*s m"],
    mean: Float[Array, "*s m"],
    log_scale: Float[Array, "*s m"],
    levels: int,
) -> Float[Array, "*s"]:
    """log Σ_m softmax(a)_m P_m(k), in nats."""
    masses = logistic_log_mass(jnp.broadcast_to(level[..., None], mean.shape), mean, log_scale, levels)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits) + masses, axis=-1)


def mixture_sample(
    key: Key,
    logits: Float[Array, "*s m"],
    mean: Float[Array, "*s m"],
    log_scale: Float[Array, "*s m"],
    levels: int,
) -> Int[Array, "*s"]:
    """A level: a component, a logistic draw from it, and its interval."""
    which, inside = jax.random.split(key)
    chosen = jax.random.categorical(which, logits)[..., None]
    m, s = (jnp.take_along_axis(array, chosen, axis=-1)[..., 0] for array in (mean, log_scale))
    value = m + jnp.exp(s) * jax.random.logistic(inside, m.shape)
    return jnp.clip(jnp.round((value + 1) * (levels - 1) / 2), 0, levels - 1).astype(jnp.int32)


def mixture_mean(
    logits: Float[Array, "*s m"], mean: Float[Array, "*s m"], log_scale: Float[Array, "*s m"], levels: int
) -> Float[Array, "*s"]:
    """E[k] over the levels, exactly by summing the masses."""

    def term(level: Int[Array, ""]) -> Float[Array, "*s"]:
        levels_here = jnp.broadcast_to(level, mean.shape[:-1])
        return level * jnp.exp(mixture_log_mass(levels_here, logits, mean, log_scale, levels))

    return jax.vmap(term)(jnp.arange(levels)).sum(0)
