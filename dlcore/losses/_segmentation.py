"""Losses of segmentation beside cross-entropy per pixel (lecture 25).

Predictions are logits. `softmax_focal` and `sigmoid_focal` give a loss per pixel. The Dice and Lovász losses are
functions of a set of pixels, and give a loss per image [b]; for one set of all pixels of a batch reshape to
[1, pixels, c]. Pixels that `ignore` or `where` leaves out enter nothing: an image without others has loss and
gradient 0. Everything is computed in float32 at least. Raises `ValueError` for shapes that do not fit, and outside
`jit` for labels out of range, which make a loss NaN inside.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Num

from dlcore.losses._classification import checked_weights, label_weights
from dlcore.losses._regression import operands
from dlcore.operands import Discrete, class_labels, masked, wide
from dlcore.setting import number


def softmax_focal(
    logits: Float[Array, "*b c"],
    labels: Discrete[Array, "*b"],
    *,
    gamma: Float[ArrayLike, ""] | float = 2.0,
    weights: Float[Array, " c"] | None = None,
    ignore: int | None = None,
    where: Discrete[Array, "*b"] | None = None,
) -> Float[Array, "*b"]:
    """−w_y (1 − p_y)^γ log p_y in nats, with p = softmax(logits) (Lin et al. 2017, eq. 5); γ = 0 is cross-entropy.

    `weights` are the α of the classes, 1 by default; labels equal to `ignore` have loss 0. Raises `ValueError` for
    γ < 0, fewer than two classes, and weights that are not one per class or negative.

    >>> p = jnp.array([[0.7, 0.2, 0.1]])
    >>> print(softmax_focal(jnp.log(p), jnp.array([0])).round(4))
    [0.0321]
    """
    _check_gamma("softmax_focal", gamma)
    index, inside, where, logits = _sites("softmax_focal", logits, labels, ignore, where)
    weights = None if weights is None else checked_weights("softmax_focal", weights, logits.shape[-1])
    chosen = jnp.arange(logits.shape[-1]) == index[..., None]
    whole = jax.nn.logsumexp(logits, axis=-1)
    log_p = jnp.take_along_axis(logits, index[..., None], axis=-1)[..., 0] - whole
    # The logarithm of 1 − p from the other logits: exact where p is near 1, with a finite gradient for any γ.
    log_rest = jax.nn.logsumexp(jnp.where(chosen, -jnp.inf, logits), axis=-1) - whole
    loss = -jnp.exp(gamma * log_rest) * log_p
    loss = loss if weights is None else loss * label_weights(index, weights)
    return masked(jnp.where(inside, loss, jnp.nan), where)


def sigmoid_focal(
    logits: Float[Array, "*s"],
    targets: Num[Array, "*s"] | Bool[Array, "*s"],
    *,
    alpha: Float[ArrayLike, ""] | float | None = 0.25,
    gamma: Float[ArrayLike, ""] | float = 2.0,
    where: Discrete[Array, "*s"] | None = None,
) -> Float[Array, "*s"]:
    """−t α (1 − p)^γ log p − (1 − t)(1 − α) p^γ log(1 − p) in nats, with p = σ(logits), t in [0, 1] (Lin et al. 2017).

    Without α both sides weigh 1. Raises `ValueError` for γ < 0 and unless 0 ≤ α ≤ 1.
    """
    _check_gamma("sigmoid_focal", gamma)
    if alpha is not None:
        number(alpha, "sigmoid_focal: alpha", "[0, 1]")
    logits, targets, where = operands("sigmoid_focal", where, logits=logits, targets=targets)
    log_p, log_rest = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    one, other = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    hit = one * targets * jnp.exp(gamma * log_rest) * log_p
    return masked(-hit - other * (1 - targets) * jnp.exp(gamma * log_p) * log_rest, where)


def softmax_dice(
    logits: Float[Array, "b *space c"],
    labels: Discrete[Array, "b *space"],
    *,
    smoothing: float = 1.0,
    ignore: int | None = None,
    where: Discrete[Array, "b *space"] | None = None,
) -> Float[Array, " b"]:
    """1 − mean_k (2 Σ_i p_ik t_ik + s)/(Σ_i p_ik + Σ_i t_ik + s) of each image, p = softmax, t one-hot.

    s is `smoothing`, and the mean runs over all classes; with s = 0 a class without truth has loss 1, and one with
    neither truth nor prediction 0 (Milletari et al. 2016, with the denominator of Sudre et al. 2017). Raises
    `ValueError` for s < 0.
    """
    _check_smoothing("softmax_dice", smoothing)
    index, inside, where, logits = _sites("softmax_dice", logits, labels, ignore, where)
    p = jax.nn.softmax(logits) * (1.0 if where is None else where[..., None])
    truth = jax.nn.one_hot(index, logits.shape[-1], dtype=p.dtype)
    truth = truth if where is None else jnp.where(where[..., None], truth, 0.0)
    loss = 1 - _overlap(_flat(p), _flat(truth), smoothing).mean(-1)
    return jnp.where(_all_inside(inside, where), loss, jnp.nan)


def sigmoid_dice(
    logits: Float[Array, "b *space"],
    targets: Num[Array, "b *space"] | Bool[Array, "b *space"],
    *,
    smoothing: float = 1.0,
    where: Discrete[Array, "b *space"] | None = None,
) -> Float[Array, " b"]:
    """1 − (2 Σ_i p_i t_i + s)/(Σ_i p_i + Σ_i t_i + s) of each image, p = σ(logits); raises `ValueError` for s < 0."""
    _check_smoothing("sigmoid_dice", smoothing)
    logits, targets, where = operands("sigmoid_dice", where, logits=logits, targets=targets)
    p = jax.nn.sigmoid(logits)
    p = p if where is None else jnp.where(where, p, 0.0)
    return 1 - _overlap(_flat(p[..., None]), _flat(targets[..., None]), smoothing)[:, 0]


def lovasz_classes(
    logits: Float[Array, "b *space c"],
    labels: Discrete[Array, "b *space"],
    *,
    ignore: int | None = None,
    where: Discrete[Array, "b *space"] | None = None,
) -> tuple[Float[Array, "b c"], Bool[Array, "b c"]]:
    """The Lovász extension of 1 − IoU at the errors |t_ik − p_ik| of each class, and which classes the truth has."""
    index, inside, where, logits = _sites("lovasz_classes", logits, labels, ignore, where)
    classes = logits.shape[-1]
    truth = _flat(index[..., None] == jnp.arange(classes))
    kept = jnp.ones(truth.shape[:2], bool) if where is None else where.reshape(truth.shape[:2])
    truth &= kept[..., None]
    errors = jnp.abs(truth - _flat(jax.nn.softmax(logits)))
    each = jax.vmap(jax.vmap(_lovasz, (1, 1, None)), (0, 0, 0))
    values = each(errors, truth, kept)
    return jnp.where(_all_inside(inside, where)[:, None], values, jnp.nan), truth.any(1)


def lovasz_softmax(
    logits: Float[Array, "b *space c"],
    labels: Discrete[Array, "b *space"],
    *,
    ignore: int | None = None,
    where: Discrete[Array, "b *space"] | None = None,
) -> Float[Array, " b"]:
    """The mean of `lovasz_classes` over the classes that the truth of an image has (Berman et al. 2018, eq. 11)."""
    values, present = lovasz_classes(logits, labels, ignore=ignore, where=where)
    # A label out of range stays a NaN, though no class is present for it.
    total = jnp.where(present | jnp.isnan(values), values, 0.0).sum(-1)
    return total / jnp.maximum(present.sum(-1), 1)


def lovasz_hinge(
    logits: Float[Array, "b *space"],
    targets: Bool[Array, "b *space"] | Num[Array, "b *space"],
    *,
    where: Discrete[Array, "b *space"] | None = None,
) -> Float[Array, " b"]:
    """The Lovász extension of 1 − IoU of the foreground at the hinge errors 1 − a_i (2 t_i − 1), t = 0 or 1, per image.

    Berman et al. 2018, eq. 6–8: piecewise linear in the logits a, at a = ±∞ equal to the Jaccard loss of the sign.
    """
    logits, targets, where = operands("lovasz_hinge", where, logits=logits, targets=targets)
    truth = targets > 0.5
    kept = jnp.ones(truth.shape, bool) if where is None else where
    errors = 1 - logits * jnp.where(truth, 1.0, -1.0)
    rows = (x.reshape(len(x), -1) for x in (errors, truth & kept, kept))
    return jax.vmap(_lovasz)(*rows)


def _lovasz(errors: Float[Array, " n"], truth: Bool[Array, " n"], kept: Bool[Array, " n"]) -> Float[Array, ""]:
    """Σ_i max(e_i, 0) (Δ(1 … i) − Δ(1 … i − 1)) over errors in falling order, Δ the Jaccard loss of missing those."""
    order = jnp.argsort(jnp.where(kept, -jax.lax.stop_gradient(errors), jnp.inf))
    hit, counted = truth[order].astype(errors.dtype), kept[order].astype(errors.dtype)
    total = hit.sum()
    union = total + jnp.cumsum(counted - hit)
    jaccard = 1 - (total - jnp.cumsum(hit)) / jnp.maximum(union, 1)
    steps = jnp.diff(jaccard, prepend=0.0)
    return jnp.where(counted > 0, jnp.maximum(errors[order], 0) * jax.lax.stop_gradient(steps), 0.0).sum()


def _overlap(p: Float[Array, "b n c"], truth: Float[Array, "b n c"], smoothing: float) -> Float[Array, "b c"]:
    """(2 Σ p t + s)/(Σ p + Σ t + s), and 1 where nothing is there to overlap."""
    below = p.sum(1) + truth.sum(1) + smoothing
    there = below > 0
    return jnp.where(there, (2 * (p * truth).sum(1) + smoothing) / jnp.where(there, below, 1.0), 1.0)


def _flat(x: Array) -> Array:
    """[b, *space, c] as [b, n, c]."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _sites(
    function: str, logits: Array, labels: Any, ignore: int | None, where: Any
) -> tuple[Array, Bool[Array, "*b"], Bool[Array, "*b"] | None, Array]:
    """Labels by index, those in range, those that count, and the logits, 0 where nothing counts."""
    *shape, classes = jnp.shape(logits)
    if classes < 2:
        raise ValueError(f"{function}: logits {jnp.shape(logits)} have {classes} classes; use two or more, or sigmoid_")
    index, inside, where = class_labels(function, labels, tuple(shape), classes, ignore=ignore, where=where)
    logits = wide(logits, function)
    return index, inside, where, logits if where is None else jnp.where(where[..., None], logits, 0.0)


def _all_inside(inside: Bool[Array, "b *space"], where: Bool[Array, "b *space"] | None) -> Bool[Array, " b"]:
    fine = inside if where is None else inside | ~where
    return fine.reshape(len(fine), -1).all(-1)


def _check_gamma(function: str, gamma: Any) -> None:
    number(gamma, f"{function}: gamma", "[0, ∞)")


def _check_smoothing(function: str, smoothing: float) -> None:
    if not smoothing >= 0:
        raise ValueError(f"{function}: smoothing must not be negative, got {smoothing}")
