"""The logistic distribution over grey levels, and mixtures of it (lecture 2.13, 23; Salimans et al. 2017, eq. 2).

Level k of L stands for the interval of width 2/(L − 1) around x_k = 2k/(L − 1) − 1 in [−1, 1]; level 0 takes all mass
below it and level L − 1 all above, so that the L masses sum to 1.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Integer

from dlcore.stats._special import wide
from dlcore.types import Key

LOG_SCALE_LIMIT = 40.0
"""Log-scales are clipped to ± this: e^{±40} and its products stay within float32."""


def logistic_log_mass(
    level: Integer[ArrayLike, "*s"], mean: Float[ArrayLike, "*t"], log_scale: Float[ArrayLike, "*u"], levels: int
) -> Float[Array, "*s"]:
    """log P(k) = log(σ(h) − σ(l)) with h, l = (x_k ± δ − μ)/s, δ = 1/(L − 1), in nats.

    Finite with its gradient for |μ| ≤ 1e15 at any scale. Computed as log σ(h) + log σ(−l) + log(1 − e^{l − h}), the
    same without a difference of near-equal numbers. Raises `ValueError` for shapes that differ.
    """
    _check_shapes("logistic_log_mass", jnp.shape(level), level=level, mean=mean, log_scale=log_scale)
    mean, inverse = wide(mean), jnp.exp(-_clipped(log_scale)) / (levels - 1)
    # In units of δ, where the edges of the levels are whole numbers: a tiny scale magnifies all rounding of them.
    centre, shift = 2 * jnp.asarray(level, jnp.int32) - (levels - 1), mean * (levels - 1)
    below_high = jax.nn.log_sigmoid((centre + 1 - shift) * inverse)
    above_low = jax.nn.log_sigmoid((shift - (centre - 1)) * inverse)
    inner = below_high + above_low + jnp.log(-jnp.expm1(-2 * inverse))
    return jnp.where(level == 0, below_high, jnp.where(level == levels - 1, above_low, inner))


def mixture_log_mass(
    level: Integer[ArrayLike, "*s"],
    logits: Float[ArrayLike, "*t m"],
    mean: Float[ArrayLike, "*u n"],
    log_scale: Float[ArrayLike, "*v k"],
    levels: int,
) -> Float[Array, "*s"]:
    """log Σ_m softmax(a)_m P_m(k), in nats. Raises `ValueError` for shapes that differ."""
    shape = (*jnp.shape(level), *jnp.shape(mean)[-1:])
    _check_shapes("mixture_log_mass", shape, logits=logits, mean=mean, log_scale=log_scale)
    masses = logistic_log_mass(jnp.broadcast_to(level[..., None], shape), mean, log_scale, levels)
    return jax.nn.logsumexp(jax.nn.log_softmax(wide(logits)) + masses, axis=-1)


def mixture_sample(
    key: Key,
    logits: Float[ArrayLike, "*s m"],
    mean: Float[ArrayLike, "*t n"],
    log_scale: Float[ArrayLike, "*u k"],
    levels: int,
) -> Int[Array, "*s"]:
    """A level: a component, a logistic draw from it, and its interval. Raises `ValueError` for shapes that differ."""
    _check_shapes("mixture_sample", jnp.shape(mean), logits=logits, mean=mean, log_scale=log_scale)
    which, inside = jax.random.split(key)
    chosen = jax.random.categorical(which, wide(logits))[..., None]
    m, s = (jnp.take_along_axis(wide(array), chosen, axis=-1)[..., 0] for array in (mean, log_scale))
    value = m + jnp.exp(_clipped(s)) * jax.random.logistic(inside, m.shape)
    return jnp.clip(jnp.round((value + 1) * (levels - 1) / 2), 0, levels - 1).astype(jnp.int32)


def mixture_mean(
    logits: Float[ArrayLike, "*s m"], mean: Float[ArrayLike, "*t n"], log_scale: Float[ArrayLike, "*u k"], levels: int
) -> Float[Array, "*s"]:
    """E[k] over the levels, exactly by summing the masses. Raises `ValueError` for shapes that differ."""

    def term(level: Int[Array, ""]) -> Float[Array, "*s"]:
        levels_here = jnp.broadcast_to(level, mean.shape[:-1])
        return level * jnp.exp(mixture_log_mass(levels_here, logits, mean, log_scale, levels))

    return jax.vmap(term)(jnp.arange(levels)).sum(0)


def _clipped(log_scale: Array) -> Array:
    return jnp.clip(wide(log_scale), -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)


def _check_shapes(name: str, shape: tuple[int, ...], **arrays: Array) -> None:
    for what, array in arrays.items():
        if jnp.shape(array) != shape:
            raise ValueError(f"{name}: {what} has shape {jnp.shape(array)}, expected {shape}, that of the others")
