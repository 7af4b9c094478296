"""Entropy, cross-entropy and divergences of probability mass functions, in nats or bits (lecture 2.13–2.15).

Every function takes p over its last axis and reads the others as a batch. 0 · log 0 = 0. Gradients are finite
everywhere: at a mass of 0, and where a divergence is +∞, that of the entry concerned is set to 0. Outside jit, grad and
vmap a p that is no distribution raises `ValueError`; inside nothing can be looked at, and negative mass gives NaN.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.stats.check import check_pmf

UNITS = {"nats": 1.0, "bits": math.log(2)}
"""Units of information, in nats."""


def entropy(p: Float[Array, "*b k"], unit: str = "nats") -> Float[Array, "*b"]:
    """H(p) = −Σ p log p ≥ 0; a fair coin has 1 bit (Shannon 1948).

    Raises `ValueError` for a p that is no distribution or an unknown unit.
    """
    check_pmf(p, "p", -1)
    return _in(unit, -_times_log(p, p).sum(-1))


def cross_entropy(p: Float[Array, "*b k"], q: Float[Array, "*c j"], unit: str = "nats") -> Float[Array, "*d"]:
    """H(p, q) = −Σ p log q = H(p) + KL(p ‖ q): +∞ where q lacks mass that p has.

    Raises `ValueError` for p or q that is no distribution, another number of outcomes, or an unknown unit.
    """
    _check_pair(p, q)
    return _in(unit, jnp.where(_lacks(q, p), jnp.inf, -_times_log(p, q).sum(-1)))


def kl(p: Float[Array, "*b k"], q: Float[Array, "*c j"], unit: str = "nats") -> Float[Array, "*d"]:
    """KL(p ‖ q) = Σ p log(p/q) ≥ 0: +∞ where q lacks mass that p has (Kullback & Leibler 1951).

    Raises `ValueError` for p or q that is no distribution, another number of outcomes, or an unknown unit.
    """
    _check_pair(p, q)
    return _in(unit, jnp.where(_lacks(q, p), jnp.inf, (_times_log(p, p) - _times_log(p, q)).sum(-1)))


def js(p: Float[Array, "*b k"], q: Float[Array, "*c j"], unit: str = "nats") -> Float[Array, "*d"]:
    """JS(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = ½(p + q), in [0, log 2], always finite (Lin 1991).

    Raises `ValueError` for p or q that is no distribution, another number of outcomes, or an unknown unit.
    """
    _check_pair(p, q)
    middle = (p + q) / 2
    to_middle = (_times_log(x, x) - _times_log(x, middle) for x in (p, q))
    return _in(unit, sum(terms.sum(-1) for terms in to_middle) / 2)


def log_entropy(log_p: Float[Array, "*b k"]) -> Float[Array, "*b"]:
    """H(p) in nats from log-probabilities, which reach further than float does and may be −∞."""
    present = log_p > -jnp.inf
    log_p = jnp.where(present, log_p, 0.0)
    return -jnp.where(present, jnp.exp(log_p) * log_p, 0.0).sum(-1)


def log_kl(log_p: Float[Array, "*b k"], log_q: Float[Array, "*c j"]) -> Float[Array, "*d"]:
    """KL(p ‖ q) in nats from log-probabilities. Raises `ValueError` for another number of outcomes."""
    _check_sizes(log_p, log_q)
    lacks = ((log_p > -jnp.inf) & (log_q == -jnp.inf)).any(-1)
    both = (log_p > -jnp.inf) & (log_q > -jnp.inf)
    log_p, log_q = jnp.where(both, log_p, 0.0), jnp.where(both, log_q, 0.0)
    return jnp.where(lacks, jnp.inf, jnp.where(both, jnp.exp(log_p) * (log_p - log_q), 0.0).sum(-1))


def _times_log(p: Array, q: Array) -> Array:
    """p log q, 0 where p is 0 or q is."""
    counts = (p != 0) & (q != 0)
    return jnp.where(counts, p * jnp.log(jnp.where(counts, q, 1.0)), 0.0)


def _lacks(q: Array, p: Array) -> Array:
    """Whether some outcome has mass under p and none under q."""
    return ((p > 0) & (q == 0)).any(-1)


def _in(unit: str, nats: Array) -> Array:
    if unit not in UNITS:
        raise ValueError(f"unit must be one of {sorted(UNITS)}, got {unit!r}")
    return nats / UNITS[unit]


def _check_sizes(p: Array, q: Array) -> None:
    if p.shape[-1:] != q.shape[-1:] or not p.ndim:
        raise ValueError(f"p and q need the same outcomes on their last axis, got shapes {p.shape} and {q.shape}")


def _check_pair(p: Array, q: Array) -> None:
    _check_sizes(p, q)
    check_pmf(p, "p", -1)
    check_pmf(q, "q", -1)
