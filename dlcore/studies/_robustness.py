"""Classifiers on images that lack pixels or are noisy (lecture 22)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer

from dlcore.operands import has_shape
from dlcore.setting import Number
from dlcore.studies._judges import BLOCK, Judge, scores
from dlcore.types import Key


def hidden(
    key: Key, x: Integer[Array, "b h w c"], fraction: Number, fill: Integer[Array, "h w c"]
) -> tuple[Integer[Array, "b h w c"], Bool[Array, "h w c"]]:
    """Images that all lack the same pixels, each missing with probability `fraction`, filled in; what is observed.

    Raises `ValueError` for a fill that is no image like those.
    """
    has_shape("hidden", "fill", fill, x.shape[1:], f"an image like those of {x.shape}")
    kept = jax.random.uniform(key, (*x.shape[1:3], 1)) >= fraction
    observed = jnp.broadcast_to(kept, x.shape[1:])
    return jnp.where(observed, x, fill.astype(x.dtype)), observed


def noisy(key: Key, x: Integer[Array, "b h w c"], std: Number, levels: int) -> Integer[Array, "b h w c"]:
    """Grey levels with Gaussian noise of `std` (of the range of grey levels), rounded and clipped to 0 … L − 1."""
    moved = x + std * (levels - 1) * jax.random.normal(key, x.shape)
    return jnp.clip(jnp.round(moved), 0, levels - 1).astype(x.dtype)


def robustness(
    key: Key,
    judge: Judge,
    x: Integer[np.ndarray, "n h w c"],
    labels: Integer[np.ndarray, " n"],
    fill: Integer[np.ndarray, "h w c"],
    levels: int,
    *,
    fractions: Sequence[float],
    stds: Sequence[float],
) -> dict[str, Float[np.ndarray, "k 2"]]:
    """(accuracy, nats) at every fraction of missing pixels, "missing", and at every noise, "noise".

    Images come in blocks, whose pixels are missing together; one key means the same damage for every judge.
    """

    @jax.jit
    def run(x: Array, key: Key, fraction: Array, std: Array) -> Array:
        disturbed = noisy(jax.random.fold_in(key, 0), x, std, levels)
        return judge(*hidden(jax.random.fold_in(key, 1), disturbed, fraction, jnp.asarray(fill)))

    def measured(fraction: float, std: float) -> tuple[float, float]:
        parts = []
        for start in range(0, len(x), BLOCK):
            rows = np.arange(start, start + BLOCK) % len(x)
            parts.append(np.asarray(run(x[rows], jax.random.fold_in(key, start), fraction, std)))
        return scores(np.concatenate(parts)[: len(x)], labels)

    return {
        "missing": np.asarray([measured(fraction, 0.0) for fraction in fractions]),
        "noise": np.asarray([measured(0.0, std) for std in stds]),
    }


def mean_image(images: Integer[np.ndarray, "n h w c"]) -> Integer[np.ndarray, "h w c"]:
    """What stands where pixels are missing: the mean of the training images, rounded to a grey level."""
    return np.round(images.mean(0, dtype=np.float64)).astype(images.dtype)
