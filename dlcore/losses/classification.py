"""Classification losses in nats, per example or site (lecture 3.9–3.11). `where` sets the loss of others to 0."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dlcore.losses.regression import masked


def softmax_cross_entropy(
    logits: Float[Array, "*b c"],
    labels: Int[Array, "*b"] | Float[Array, "*b c"],
    *,
    label_smoothing: float = 0.0,
    where: Bool[Array, "*b"] | None = None,
) -> Float[Array, "*b"]:
    """−Σ_k q_k log softmax(logits)_k, with q one-hot at an integer label or given as probabilities.

    Smoothing replaces q by (1 − ε) q + ε/c (lecture 11.6). A label outside 0 … c − 1 gives NaN, so that
    it cannot go unnoticed under jit. Computed in float32. Raises `ValueError` unless 0 ≤ ε < 1.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
    if where is not None:
        logits = jnp.where(where[..., None], logits, 0.0)
    log_p = jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    if labels.ndim == logits.ndim:
        loss = -jnp.sum(jnp.where(labels == 0, 0.0, labels * log_p), axis=-1)
    else:
        inside = (labels >= 0) & (labels < logits.shape[-1])
        picked = jnp.take_along_axis(log_p, jnp.where(inside, labels, 0)[..., None], axis=-1)[..., 0]
        loss = jnp.where(inside, -picked, jnp.nan)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(-1)
    return masked(loss, where)


def sigmoid_cross_entropy(
    logits: Float[Array, "*s"], targets: Float[Array, "*s"], *, where: Bool[Array, "*s"] | None = None
) -> Float[Array, "*s"]:
    """−t log σ(a) − (1 − t) log(1 − σ(a)) = softplus(a) − t·a, with targets t in [0, 1]."""
    if where is not None:
        logits, targets = jnp.where(where, logits, 0.0), jnp.where(where, targets, 0.0)
    return masked(jax.nn.softplus(logits) - targets * logits, where)
