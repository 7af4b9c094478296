"""Mixtures of two examples and of their labels (lecture 11.4): jitted, over a batch and itself in another order."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from dlcore.data._arguments import Strength, check_rank, check_real, check_strength
from dlcore.types import Key


class Mixed(NamedTuple):
    """A batch of mixtures."""

    images: Num[Array, "b h w c"]
    targets: Float[Array, "b k"]
    """Class probabilities; each row sums to what the rows of the targets given sum to."""


def mixup(key: Key, images: Num[Array, "..."], targets: Num[Array, "..."], alpha: Strength) -> Mixed:
    """λ x_i + (1 − λ) x_j and the same of the targets, λ ~ Beta(α, α) for every i, j by a random order of the batch.

    Images are real [b, h, w, c], targets class probabilities [b, k]. Zhang et al. 2018. α = 0 is the identity; raises
    `ValueError` for a negative one, for labels (see `_check`), and for integer images.
    """
    images, targets = jnp.asarray(images), jnp.asarray(targets)
    _check("mixup", images, targets, alpha)
    check_real("mixup", images)
    if not isinstance(alpha, jax.core.Tracer) and alpha == 0:
        return Mixed(images, targets)
    order, share = _draw(key, len(images), alpha)
    return Mixed(_blend(images, order, share), _blend(targets, order, share))


def cutmix(key: Key, images: Num[Array, "..."], targets: Num[Array, "..."], alpha: Strength) -> Mixed:
    """x_i with a rectangle of about (1 − λ) h w pixels out of x_j; the targets are weighted by the pixels of each.

    The rectangle has the shape of the image and its middle anywhere, cut off at the border; λ ~ Beta(α, α). Images are
    [b, h, w, c] of any dtype, targets class probabilities [b, k]. Yun et al. 2019. α = 0 is the identity; raises
    `ValueError` for a negative one, and for labels (see `_check`).
    """
    images, targets = jnp.asarray(images), jnp.asarray(targets)
    _check("cutmix", images, targets, alpha)
    if not isinstance(alpha, jax.core.Tracer) and alpha == 0:
        return Mixed(images, targets)
    order, share = _draw(key, len(images), alpha)
    inside = jnp.ones((len(images), 1, 1, 1), bool)
    for axis in (1, 2):
        n = images.shape[axis]
        half = jnp.sqrt(1 - share) * n / 2
        middle = jax.random.uniform(jax.random.fold_in(key, 2 + axis), share.shape, maxval=n)
        low, high = jnp.round(middle - half), jnp.round(middle + half)
        cells = (jnp.arange(n) >= low[:, None]) & (jnp.arange(n) < high[:, None])
        inside &= jnp.expand_dims(cells, (3 - axis, 3))
    kept = 1 - inside.mean((1, 2, 3))[:, None].astype(targets.dtype)
    return Mixed(jnp.where(inside, images[order], images), kept * targets + (1 - kept) * targets[order])


def _blend(values: Array, order: Array, share: Array) -> Array:
    """λ v_i + (1 − λ) v_j in the dtype of the values."""
    weight = share.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return weight * values + (1 - weight) * values[order]


def _draw(key: Key, count: int, alpha: Any) -> tuple[Array, Array]:
    order = jax.random.permutation(jax.random.fold_in(key, 0), count)
    # Beta(0, 0) is not a density; a traced α may be 0 all the same.
    shape = jnp.where(alpha > 0, alpha, 1.0)
    share = jax.random.beta(jax.random.fold_in(key, 1), shape, shape, (count,))
    return order, jnp.where(alpha > 0, share, 1)


def _check(name: str, images: Array, targets: Array, alpha: Any) -> None:
    """Refuse labels [b], which would be mixed into numbers of other classes, and what is not one row per image."""
    check_rank(name, images, (4,))
    check_strength(name, "alpha", alpha)
    if targets.ndim != 2 or len(targets) != len(images):
        fix = ": pass jax.nn.one_hot(labels, classes)" if targets.ndim == 1 else ""
        raise ValueError(
            f"{name}: targets are {targets.shape} for images {images.shape}; want probabilities [b, classes]{fix}"
        )
    if not jnp.issubdtype(targets.dtype, jnp.floating):
        raise ValueError(
            f"{name}: targets are {targets.dtype}; want probabilities, e.g. jax.nn.one_hot(labels, classes)"
        )
