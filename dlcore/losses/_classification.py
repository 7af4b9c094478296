"""Classification losses in nats, per example or site (lecture 3.9–3.11). `where` sets the loss of others to 0."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Num

from dlcore.losses._regression import operands
from dlcore.operands import Discrete, class_labels, known, marks, masked, wide
from dlcore.setting import number


def softmax_cross_entropy(
    logits: Float[Array, "*b c"],
    labels: Discrete[Array, "*b"] | Float[Array, "*b c"],
    *,
    label_smoothing: Float[ArrayLike, ""] | float = 0.0,
    weights: Float[Array, " c"] | None = None,
    ignore: int | None = None,
    where: Discrete[Array, "*b"] | None = None,
) -> Float[Array, "*b"]:
    """−Σ_k w_k q_k log softmax(logits)_k, with q one-hot at an integer label or given as probabilities.

    Smoothing replaces q by (1 − ε) q + ε/c (lecture 11.6). `weights` are the w_k of the classes, 1 by default. Their
    weighted mean divides by the sum of `label_weights`, as PyTorch's `weight=` does: `supervised(class_weights=)`.
    Labels equal to `ignore` have loss 0, like those outside `where`, and are to be left out of the mean:
    `supervised(ignore=)`. Computed in float32.

    Raises `ValueError` for shapes that do not fit, floats as labels, unless 0 ≤ ε < 1 and w_k ≥ 0, and for a label
    outside 0 … c − 1; under `jit`, where labels cannot be looked at, such a label gives NaN.
    """
    name = "softmax_cross_entropy"
    number(label_smoothing, "label_smoothing", "[0, 1)")
    classes = jnp.shape(logits)[-1]
    weights = None if weights is None else checked_weights(name, weights, classes)
    shape = jnp.shape(logits)[:-1]
    if jnp.ndim(labels) == jnp.ndim(logits):
        labels, where = _probabilities(labels, jnp.shape(logits), ignore, where)
        log_p = _log_softmax(logits, where)
        terms = labels * (log_p if weights is None else weights * log_p)
        loss = -jnp.sum(jnp.where(labels == 0, 0.0, terms), axis=-1)
    else:
        index, inside, where = class_labels(name, labels, shape, classes, ignore=ignore, where=where)
        log_p = _log_softmax(logits, where)
        picked = jnp.take_along_axis(log_p, index[..., None], axis=-1)[..., 0]
        loss = jnp.where(inside, -picked if weights is None else -picked * weights[index], jnp.nan)
    if not known(label_smoothing) or label_smoothing:
        every = log_p if weights is None else weights * log_p
        loss = (1 - label_smoothing) * loss - label_smoothing * every.mean(-1)
    return masked(loss, where)


def label_weights(
    labels: Discrete[Array, "*b"] | Float[Array, "*b c"], weights: Float[Array, " c"]
) -> Float[Array, "*b"]:
    """What each example counts for in a weighted mean: w_k at a label k, 1 for a target of probabilities.

    A label outside 0 … c − 1 counts NaN. Raises `ValueError` unless the weights are [c] and not negative.
    """
    weights = checked_weights("label_weights", weights, jnp.size(weights))
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return jnp.ones(labels.shape[:-1], weights.dtype)
    index = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))
    inside = (index >= 0) & (index < len(weights))
    return jnp.where(inside, weights[jnp.where(inside, index, 0)], jnp.nan)


def sigmoid_cross_entropy(
    logits: Float[Array, "*s"],
    targets: Num[Array, "*s"] | Bool[Array, "*s"],
    *,
    where: Discrete[Array, "*s"] | None = None,
) -> Float[Array, "*s"]:
    """−t log σ(a) − (1 − t) log(1 − σ(a)) = softplus(a) − t·a, with targets t in [0, 1].

    Raises `ValueError` for shapes that differ, and outside `jit` for targets that count but lie outside [0, 1].
    """
    logits, targets, where = operands("sigmoid_cross_entropy", where, logits=logits, targets=targets)
    _check_unit("sigmoid_cross_entropy", targets)
    return masked(jax.nn.softplus(logits) - targets * logits, where)


def _log_softmax(logits: Array, where: Array | None) -> Float[Array, "*b c"]:
    logits = wide(logits, "softmax_cross_entropy")
    return jax.nn.log_softmax(logits if where is None else jnp.where(where[..., None], logits, 0.0))


def _probabilities(targets: Array, shape: tuple[int, ...], ignore: int | None, where: Any) -> tuple[Array, Any]:
    """Targets of the logits' shape, 0 outside the mask, and the mask."""
    given, dtype = jnp.shape(targets), jnp.result_type(targets)
    if given != shape or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"softmax_cross_entropy: labels have shape {given} and dtype {dtype}, logits {shape}; "
            f"expected integer labels {shape[:-1]}, or probabilities {shape} as floats"
        )
    if ignore is not None:
        raise ValueError("softmax_cross_entropy: ignore= is an integer label, but the targets are probabilities")
    where = marks("softmax_cross_entropy", where, shape[:-1])
    targets = wide(targets, "softmax_cross_entropy")
    return (targets if where is None else jnp.where(where[..., None], targets, 0.0)), where


def checked_weights(function: str, weights: Array, classes: int) -> Float[Array, " c"]:
    """The weights, wide. Raises `ValueError` unless there is one per class, and outside `jit` for a negative one."""
    if jnp.shape(weights) != (classes,):
        raise ValueError(f"{function}: weights have shape {jnp.shape(weights)}, expected one per class, ({classes},)")
    if known(weights) and not (np.asarray(weights) >= 0).all():
        raise ValueError(f"{function}: weights must not be negative, got {np.min(np.asarray(weights)):g}")
    return wide(jnp.asarray(weights), function)


def _check_unit(function: str, targets: Array) -> None:
    if not known(targets) or not targets.size:
        return
    values = np.asarray(targets)
    low, high = float(values.min()), float(values.max())
    # Rounding may carry a mean of ones past 1.
    if low < -1e-6 or high > 1 + 1e-6:
        raise ValueError(
            f"{function}: targets must lie in [0, 1], got {low:g} … {high:g}; scale them, or use "
            "softmax_cross_entropy for class numbers"
        )
