"""Random resized crops: a part of an image, of random size, shape and place, as large as the image (lecture 11.4)."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from dlcore.data._arguments import check_real, one_or_many
from dlcore.types import Key

RATIO = (3 / 4, 4 / 3)
"""Width over height of a crop, relative to the image's own, in published recipes."""


@one_or_many
def random_resized_crop(
    key: Key,
    images: Num[Array, "..."],
    area: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = RATIO,
) -> Num[Array, "..."]:
    """A random part of every image, enlarged to the size of the whole by bilinear interpolation.

    The part has a fraction of the image's area uniform in `area`, and sides whose ratio, relative to the image's own,
    has a logarithm uniform in that of `ratio`; a side that would be longer than the image's is as long. Its place is
    uniform. (1, 1) and (1, 1) is the identity. Szegedy et al. 2014, section 6. Raises `ValueError` for bounds that are
    not 0 < low ≤ high (of an area ≤ 1), and integer images.
    """
    check_real("random_resized_crop", images)
    return resized_crop(images, crop_boxes(key, len(images), area, ratio))


def crop_boxes(key: Key, count: int, area: Sequence[float], ratio: Sequence[float] = RATIO) -> Float[Array, "n 4"]:
    """(top, left, height, width) of `count` random parts, as fractions of an image's sides."""
    for name, (low, high), most in (("area", area, 1.0), ("ratio", ratio, math.inf)):
        if not 0 < low <= high <= most or not math.isfinite(high):
            raise ValueError(
                f"random_resized_crop: {name} must be 0 < low ≤ high{' ≤ 1' * (most == 1)}, got {low, high}"
            )
    sizes, shapes, places = jax.random.split(key, 3)
    fraction = jax.random.uniform(sizes, (count,), minval=area[0], maxval=area[1])
    wide = jnp.exp(jax.random.uniform(shapes, (count,), minval=math.log(ratio[0]), maxval=math.log(ratio[1])))
    sides = jnp.minimum(jnp.stack([jnp.sqrt(fraction / wide), jnp.sqrt(fraction * wide)], -1), 1)
    return jnp.concatenate([jax.random.uniform(places, (count, 2)) * (1 - sides), sides], -1)


def resized_crop(images: Num[Array, "b h w c"], boxes: Float[Array, "b 4"]) -> Num[Array, "b h w c"]:
    """The part of every image in its box (top, left, height, width; fractions of the sides), at the size of the image.

    Output pixel i of n is the input at top·n + (i + ½)·height − ½, kept within the box, by bilinear interpolation: one
    product with a matrix per axis.
    """
    rows, columns = (_weights(boxes[:, i], boxes[:, i + 2], images.shape[i + 1]).astype(images.dtype) for i in (0, 1))
    return jnp.einsum("bij,bkl,bjlc->bikc", rows, columns, images, precision="highest")


def _weights(start: Float[Array, " b"], length: Float[Array, " b"], size: int) -> Float[Array, "b n n"]:
    """Of every input pixel j in every output pixel i: max(0, 1 − |place of i − j|)."""
    first, side = start[:, None] * size, length[:, None] * size
    place = first + (jnp.arange(size) + 0.5) * length[:, None] - 0.5
    # Nothing comes from beyond the outermost centres of pixels in the box; of a narrow box from its middle.
    low, high = first + jnp.minimum(0.0, side / 2 - 0.5), first + jnp.maximum(side - 1, side / 2 - 0.5)
    place = jnp.clip(place, jnp.maximum(low, 0.0), jnp.minimum(high, size - 1.0))
    return jnp.maximum(0, 1 - jnp.abs(place[:, :, None] - jnp.arange(size)))
