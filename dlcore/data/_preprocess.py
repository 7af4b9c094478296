"""From stored values to model input, inside the compiled step."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from dlcore.types import Key


def scale(images: UInt8[Array, "*b h w c"], levels: int) -> Float[Array, "*b h w c"]:
    """Grey levels 0 … levels − 1 to [0, 1]."""
    return images.astype(jnp.float32) / (levels - 1)


def flat_pixels(images: UInt8[Array, "b h w c"], levels: int) -> Float[Array, "b n"]:
    """`scale`, with the pixels of an image in one row."""
    return scale(images, levels).reshape(len(images), -1)


def standardize(x: Float[Array, "*b c"], mean: Sequence[float], std: Sequence[float]) -> Float[Array, "*b c"]:
    """(x − mean)/std per channel, with statistics of the training split (lecture 10.6)."""
    return (x - jnp.asarray(mean, x.dtype)) / jnp.asarray(std, x.dtype)


@dataclass(frozen=True)
class Standardize:
    """`standardize` by these statistics, as a function that is compared by value."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        return standardize(x, self.mean, self.std)


def row_keys(key: Key, rows: Int[Array, " n"]) -> Key:
    """One key per row number: what is drawn for an example does not depend on the batch that it came in."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
