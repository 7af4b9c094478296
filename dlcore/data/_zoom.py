"""Random changes of size and place by fractions of a pixel, as products with small matrices (lecture 11.4)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from dlcore.data._arguments import Strength, check_fill, check_real, check_strength, one_or_many
from dlcore.types import Key


@one_or_many
def random_zoom(
    key: Key, images: Num[Array, "..."], zoom: Strength, pixels: Strength = 0.0, fill: Strength = 0.0
) -> Num[Array, "..."]:
    """Scale about the middle by a factor uniform in 1 ± `zoom` and move by up to ±`pixels`, height and width apart.

    Output pixel i is the input at s (i − c) + t + c, c the middle, by bilinear interpolation with `fill` outside: two
    products with matrices that hold the weights of at most two pixels per row, one per axis. 0 and 0 is the identity.
    Raises `ValueError` for negative strengths, a zoom above 1, and integer images.
    """
    check_real("random_zoom", images)
    check_strength("random_zoom", "zoom", zoom, 1)
    check_strength("random_zoom", "pixels", pixels)
    check_fill("random_zoom", fill, images)
    rows, columns = (
        _weights(jax.random.fold_in(key, i), images.shape[0], images.shape[i], zoom, pixels) for i in (1, 2)
    )
    moved = images - jnp.asarray(fill, images.dtype)
    moved = jnp.einsum("bij,bjwc->biwc", rows.astype(images.dtype), moved, precision="highest")
    moved = jnp.einsum("bij,bhjc->bhic", columns.astype(images.dtype), moved, precision="highest")
    return moved + jnp.asarray(fill, images.dtype)


def _weights(key: Key, count: int, size: int, zoom: Strength, pixels: Strength) -> Float[Array, "b n n"]:
    """Of every input pixel j in every output pixel i: max(0, 1 − |source of i − j|)."""
    factor, move = jax.random.uniform(key, (2, count, 1), minval=-1.0)
    places = jnp.arange(size) - (size - 1) / 2
    source = (1 + zoom * factor) * places + pixels * move + (size - 1) / 2
    return jnp.maximum(0, 1 - jnp.abs(source[:, :, None] - jnp.arange(size)))
