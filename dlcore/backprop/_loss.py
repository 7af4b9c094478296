"""Losses, forward and backward: means over the batch (lecture 9.2, 3.11–3.12).

Shapes that would broadcast raise `ValueError`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dlcore.operands import equal_shapes

Scalar = Float[Array, ""]


class CrossEntropyCache(NamedTuple):
    """Probabilities of the model and of the labels."""

    probabilities: Float[Array, "b c"]
    targets: Float[Array, "b c"]


def softmax_cross_entropy_forward(
    logits: Float[Array, "b c"], labels: Int[Array, " b"]
) -> tuple[Scalar, CrossEntropyCache]:
    """L = −mean_b log softmax(a_b)[y_b] in nats, stable for large logits; a label outside of 0…c−1 gives NaN."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"softmax_cross_entropy: labels {labels.shape} must be one per row of logits {logits.shape}")
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - jnp.log(jnp.exp(shifted).sum(-1, keepdims=True))
    known = (labels >= 0) & (labels < logits.shape[-1])
    targets = jnp.where(known[:, None], jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), jnp.nan)
    return -(targets * log_p).sum(-1).mean(), CrossEntropyCache(jnp.exp(log_p), targets)


def softmax_cross_entropy_backward(cache: CrossEntropyCache, cotangent: Scalar | float = 1.0) -> Float[Array, "b c"]:
    """∂L/∂a = (p − q)/b: the Jacobian of the softmax and the slope of the log have cancelled."""
    return cotangent * (cache.probabilities - cache.targets) / cache.targets.shape[0]


def sigmoid_cross_entropy_forward(
    logits: Float[Array, "*s"], targets: Float[Array, "*s"]
) -> tuple[Scalar, Float[Array, "*s"]]:
    """L = mean of softplus(a) − t·a in nats, targets t in [0, 1]."""
    equal_shapes("sigmoid_cross_entropy", logits=logits, targets=targets)
    loss = jnp.maximum(logits, 0) - targets * logits + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return loss.mean(), 1 / (1 + jnp.exp(-logits)) - targets


def sigmoid_cross_entropy_backward(cache: Float[Array, "*s"], cotangent: Scalar | float = 1.0) -> Float[Array, "*s"]:
    """∂L/∂a = (σ(a) − t)/n."""
    return cotangent * cache / cache.size


def mse_forward(prediction: Float[Array, "*s"], target: Float[Array, "*s"]) -> tuple[Scalar, Float[Array, "*s"]]:
    """L = mean of (ŷ − y)² over all n elements."""
    equal_shapes("mse", prediction=prediction, target=target)
    error = prediction - target
    return jnp.square(error).mean(), error


def mse_backward(cache: Float[Array, "*s"], cotangent: Scalar | float = 1.0) -> Float[Array, "*s"]:
    """∂L/∂ŷ = 2 (ŷ − y)/n."""
    return cotangent * 2 * cache / cache.size
