"""Mixtures of two examples and of their labels (lecture 11.4): jitted, over a batch and itself in another order."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.types import Key


class Mixed(NamedTuple):
    """A batch of mixtures."""

    images: Float[Array, "b h w c"]
    targets: Float[Array, "b k"]
    """Class probabilities; each row sums to what the rows of the targets given sum to."""


def mixup(key: Key, images: Float[Array, "b h w c"], targets: Float[Array, "b k"], alpha: float) -> Mixed:
    """λ x_i + (1 − λ) x_j and the same of the targets, λ ~ Beta(α, α) for every i, j by a random order of the batch.

    Zhang et al. 2018. α = 0 is the identity; raises `ValueError` for a negative one.
    """
    _check(alpha, "mixup")
    if alpha == 0:
        return Mixed(images, targets)
    order, share = _draw(key, len(images), alpha)
    weight = share[:, None, None, None]
    return Mixed(
        weight * images + (1 - weight) * images[order], share[:, None] * targets + (1 - share[:, None]) * targets[order]
    )


def cutmix(key: Key, images: Float[Array, "b h w c"], targets: Float[Array, "b k"], alpha: float) -> Mixed:
    """x_i with a rectangle of about (1 − λ) h w pixels out of x_j; the targets are weighted by the pixels of each.

    The rectangle has the shape of the image and its middle anywhere, cut off at the border; λ ~ Beta(α, α). Yun et al.
    2019. α = 0 is the identity; raises `ValueError` for a negative one.
    """
    _check(alpha, "cutmix")
    if alpha == 0:
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


def _draw(key: Key, count: int, alpha: float) -> tuple[Array, Array]:
    order = jax.random.permutation(jax.random.fold_in(key, 0), count)
    return order, jax.random.beta(jax.random.fold_in(key, 1), alpha, alpha, (count,))


def _check(alpha: float, name: str) -> None:
    if alpha < 0:
        raise ValueError(f"{name}: alpha must not be negative, got {alpha}")
