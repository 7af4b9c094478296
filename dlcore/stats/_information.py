"""Entropy, cross-entropy and divergences of probability mass functions, in nats or bits (lecture 2.13–2.15).

Every function takes p over its last axis and reads the others as a batch; of two batches one is a single distribution,
or both have the same rank, where axes of size 1 broadcast. 0 · log 0 = 0. Integers are masses too, half precision is
computed in single. Gradients are finite everywhere: at a mass of 0, and where a divergence is +∞, that of the entry
concerned is set to 0. Outside jit, grad and vmap a p that is no distribution raises `ValueError`; inside nothing can be
looked at, and negative mass gives NaN. A mass below the smallest normal number of its dtype, 1e-38, counts as 0.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num

from dlcore.stats._check import check_pmf, check_same_batch
from dlcore.stats._special import expm2, wide

UNITS = {"nats": 1.0, "bits": math.log(2)}
"""Units of information, in nats."""


def entropy(p: Num[ArrayLike, "*b k"], unit: str = "nats") -> Float[Array, "*b"]:
    """H(p) = −Σ p log p ≥ 0; a fair coin has 1 bit (Shannon 1948).

    Raises `ValueError` for a p that is no distribution or an unknown unit.
    """
    check_pmf(p, "p", -1)
    p = wide(p)
    return _in(unit, -_times_log(p, p).sum(-1))


def cross_entropy(p: Num[ArrayLike, "*b k"], q: Num[ArrayLike, "*c j"], unit: str = "nats") -> Float[Array, "*d"]:
    """H(p, q) = −Σ p log q = H(p) + KL(p ‖ q): +∞ where q lacks mass that p has.

    Raises `ValueError` for p or q that is no distribution, other outcomes or batches, or an unknown unit.
    """
    p, q = _pair(p, q)
    return _in(unit, jnp.where(_lacks(q, p), jnp.inf, -_times_log(p, q).sum(-1)))


def kl(p: Num[ArrayLike, "*b k"], q: Num[ArrayLike, "*c j"], unit: str = "nats") -> Float[Array, "*d"]:
    """KL(p ‖ q) = Σ p log(p/q) ≥ 0: +∞ where q lacks mass that p has (Kullback & Leibler 1951).

    Raises `ValueError` for p or q that is no distribution, other outcomes or batches, or an unknown unit.
    """
    p, q = _pair(p, q)
    return _in(unit, jnp.where(_lacks(q, p), jnp.inf, _times_log_ratio(p, q).sum(-1)))


def js(p: Num[ArrayLike, "*b k"], q: Num[ArrayLike, "*c j"], unit: str = "nats") -> Float[Array, "*d"]:
    """JS(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = ½(p + q), in [0, log 2], always finite (Lin 1991).

    Raises `ValueError` for p or q that is no distribution, other outcomes or batches, or an unknown unit.
    """
    p, q = _pair(p, q)
    middle = p + (q - p) / 2
    return _in(unit, sum(_times_log_ratio(x, middle).sum(-1) for x in (p, q)) / 2)


def log_entropy(log_p: Float[ArrayLike, "*b k"]) -> Float[Array, "*b"]:
    """H(p) in nats from log-probabilities, which reach further than float does and may be −∞."""
    log_p = wide(log_p)
    present = log_p > -jnp.inf
    log_p = jnp.where(present, log_p, 0.0)
    return -jnp.where(present, jnp.exp(log_p) * log_p, 0.0).sum(-1)


def log_kl(log_p: Float[ArrayLike, "*b k"], log_q: Float[ArrayLike, "*c j"]) -> Float[Array, "*d"]:
    """KL(p ‖ q) in nats from log-probabilities, as Σ p log(p/q) − p + q, of which every term is positive.

    Raises `ValueError` for another number of outcomes, or batches that do not go together.
    """
    _check_shapes(log_p, log_q)
    log_p, log_q = jnp.broadcast_arrays(wide(log_p), wide(log_q))
    in_p, in_q = log_p > -jnp.inf, log_q > -jnp.inf
    both = in_p & in_q
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    gap = jnp.where(both, log_q, 0.0) - jnp.where(both, log_p, 0.0)
    near = jnp.abs(gap) < 1
    # Where p is 0 all of q is left.
    terms = jnp.where(both, jnp.where(near, p * expm2(jnp.where(near, gap, 0.0)), q - p - p * gap), q)
    return jnp.where((in_p & ~in_q).any(-1), jnp.inf, terms.sum(-1))


def _times_log_ratio(p: Array, q: Array) -> Array:
    """p log(p/q), 0 where p is 0 or q is; the logarithm of near-equal masses by their difference."""
    counts = (p != 0) & (q != 0)
    p, q = jnp.where(counts, p, 1.0), jnp.where(counts, q, 1.0)
    near = jnp.abs(p - q) < q / 2
    safe = jnp.where(near, q, 1.0)
    close = jnp.log1p((jnp.where(near, p, 1.0) - safe) / safe)
    return jnp.where(counts, p * jnp.where(near, close, jnp.log(p) - jnp.log(q)), 0.0)


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


def _check_shapes(p: ArrayLike, q: ArrayLike) -> None:
    p, q = jnp.shape(p), jnp.shape(q)
    if p[-1:] != q[-1:] or not p:
        raise ValueError(f"p and q need the same outcomes on their last axis, got shapes {p} and {q}")
    check_same_batch("p and q over their last axis", {"batch of p": p[:-1], "batch of q": q[:-1]})


def _pair(p: ArrayLike, q: ArrayLike) -> tuple[Array, Array]:
    """Both, looked at, in at least single precision."""
    _check_shapes(p, q)
    check_pmf(p, "p", -1)
    check_pmf(q, "q", -1)
    return wide(p), wide(q)
