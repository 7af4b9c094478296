"""The loss of a set of pixels as a sum of losses by name, for settings (lecture 25)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.losses._classification import label_weights, softmax_cross_entropy
from dlcore.losses._segmentation import lovasz_softmax, softmax_dice, softmax_focal

NAMES = ("ce", "dice", "focal", "lovasz")


def segmentation(
    terms: str,
    classes: int,
    *,
    class_weights: Sequence[float] = (),
    gamma: float = 2.0,
    ignore: int | None = None,
) -> Callable[[Array, Array], Float[Array, ""]]:
    """`(logits [*b, c], labels [*b]) -> loss` over all pixels that count as one set: the sum of `terms`, as "ce+dice".

    "ce" is Σ_i w(y_i) ℓ_i/Σ_i w(y_i) with `class_weights` w, equal by default, and so is "focal" with its `gamma`;
    "dice" is `softmax_dice` and "lovasz" `lovasz_softmax` of the set. Where nothing counts, because all labels are
    `ignore`, it is 0. Raises `ValueError` for an unknown term, and for weights that are not one per class.
    """
    if unknown := [name for name in terms.split("+") if name not in NAMES]:
        raise ValueError(f"loss must be a sum of {', '.join(NAMES)}, such as ce+dice; got {unknown[0]!r}")
    if class_weights and len(class_weights) != classes:
        raise ValueError(
            f"class_weights are {len(class_weights)} numbers; give one for each of {classes} classes, or none"
        )
    weights = tuple(class_weights) or (1.0,) * classes

    def mean(loss: Callable[..., Array], logits: Array, labels: Array, **options: Any) -> Float[Array, ""]:
        own = jnp.asarray(weights)
        counts = jnp.ones(labels.shape, bool) if ignore is None else labels != ignore
        total = jnp.where(counts, label_weights(jnp.where(counts, labels, 0), own), 0.0).sum()
        values = loss(logits, labels, weights=own, ignore=ignore, **options)
        return values.sum() / jnp.where(total > 0, total, 1.0)

    known = {
        "ce": lambda x, y: mean(softmax_cross_entropy, x, y),
        "focal": lambda x, y: mean(softmax_focal, x, y, gamma=gamma),
        "dice": lambda x, y: softmax_dice(x, y, ignore=ignore)[0],
        "lovasz": lambda x, y: lovasz_softmax(x, y, ignore=ignore)[0],
    }
    parts = [known[name] for name in terms.split("+")]

    def loss(logits: Array, labels: Array) -> Float[Array, ""]:
        one_set = logits.reshape(1, -1, logits.shape[-1]), labels.reshape(1, -1)
        return sum(part(*one_set) for part in parts)

    return loss
