"""Random changes of images that keep their label (lecture 11.4): jitted, one draw per image.

All take images [b, h, w, c] or one image [h, w, c], also under `vmap`, and return the same shape and dtype; another
rank is a `ValueError`. What only moves pixels takes any dtype, what computes with them real numbers only.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from dlcore.data._arguments import (
    Strength,
    check_count,
    check_fill,
    check_rank,
    check_real,
    check_strength,
    one_or_many,
)
from dlcore.types import Key

Augmentation = Callable[[Key, Array], Array]
"""`(key, images [b, h, w, c] or [h, w, c]) -> images`."""


def chain(*augmentations: Augmentation) -> Augmentation:
    """One after the other, each with a key of its own."""

    def augment(key: Key, images: Array) -> Array:
        for i, augmentation in enumerate(augmentations):
            images = augmentation(jax.random.fold_in(key, i), images)
        return images

    return augment


@one_or_many
def random_shift(key: Key, images: Num[Array, "..."], pixels: int) -> Num[Array, "..."]:
    """Translate by up to `pixels` in each direction, uniformly; the border repeats its edge. 0 is the identity.

    Raises `ValueError` for a negative number.
    """
    check_count("random_shift", "pixels", pixels)
    if pixels == 0:
        return images
    for axis in (1, 2):
        size = images.shape[axis]
        offsets = jax.random.randint(jax.random.fold_in(key, axis), (images.shape[0], 1), -pixels, pixels + 1)
        index = jnp.clip(jnp.arange(size) + offsets, 0, size - 1)
        index = index[:, :, None, None] if axis == 1 else index[:, None, :, None]
        images = jnp.take_along_axis(images, index, axis=axis)
    return images


@one_or_many
def random_crop(key: Key, images: Num[Array, "..."], padding: int, fill: Strength = 0.0) -> Num[Array, "..."]:
    """Pad by `padding` pixels of value `fill` and cut a window of the old size at a uniform place. 0 is the identity.

    He et al. 2015, section 4.2. Raises `ValueError` for a negative padding, and a fill that the dtype cannot hold.
    """
    check_count("random_crop", "padding", padding)
    check_fill("random_crop", fill, images)
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, sides, constant_values=fill)
    starts = jax.random.randint(key, (images.shape[0], 2), 0, 2 * padding + 1)

    def cut(image: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice(image, (start[0], start[1], 0), images.shape[1:])

    return jax.vmap(cut)(padded, starts)


@one_or_many
def random_flip(key: Key, images: Num[Array, "..."], probability: Strength = 0.5) -> Num[Array, "..."]:
    """Mirror left and right with the given probability. 0 is the identity.

    Raises `ValueError` for a probability outside [0, 1].
    """
    check_strength("random_flip", "probability", probability, 1)
    flipped = jax.random.bernoulli(key, jnp.asarray(probability, float), (images.shape[0], 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def views(images: Num[Array, "..."], pixels: int = 0, *, flip: bool = False) -> Num[Array, "v ..."]:
    """The same images [b, h, w, c] or [h, w, c] as test-time augmentation sees them, the unchanged ones first.

    With `pixels` above 0 they are also moved by so many up, down, left and right, the border repeating its edge (5
    views); with `flip` a mirror image of every view follows (twice as many). A prediction averaged over the views is
    invariant to mirroring, and nearly so to small shifts. Raises `ValueError` for negative pixels.
    """
    images = jnp.asarray(images)
    check_rank("views", images, (3, 4))
    check_count("views", "pixels", pixels)
    found = [images]
    if pixels:
        height, width = images.shape[-3:-1]
        sides = ((0, 0),) * (images.ndim - 3) + ((pixels, pixels), (pixels, pixels), (0, 0))
        padded = jnp.pad(images, sides, mode="edge")
        for y, x in ((2, 1), (0, 1), (1, 2), (1, 0)):
            found.append(padded[..., y * pixels : y * pixels + height, x * pixels : x * pixels + width, :])
    if flip:
        found += [view[..., ::-1, :] for view in found]
    return jnp.stack(found)


@one_or_many
def cutout(key: Key, images: Num[Array, "..."], size: int, fill: Strength = 0.0) -> Num[Array, "..."]:
    """Fill a square of `size` pixels around a random pixel (DeVries & Taylor 2017). 0 is the identity.

    Raises `ValueError` for a negative size, and a fill that the dtype cannot hold.
    """
    check_count("cutout", "size", size)
    check_fill("cutout", fill, images)
    inside = jnp.ones((images.shape[0], 1, 1, 1), bool)
    for axis in (1, 2):
        n = images.shape[axis]
        start = jax.random.randint(jax.random.fold_in(key, axis), (images.shape[0], 1), 0, n) - size // 2
        cells = (jnp.arange(n) >= start) & (jnp.arange(n) < start + size)
        inside &= cells[:, :, None, None] if axis == 1 else cells[:, None, :, None]
    return jnp.where(inside, jnp.asarray(fill, images.dtype), images)


@one_or_many
def random_rotation(key: Key, images: Num[Array, "..."], degrees: Strength, fill: Strength = 0.0) -> Num[Array, "..."]:
    """Turn about the middle by an angle uniform in ±`degrees`, bilinear, with `fill` outside. 0 is the identity.

    Raises `ValueError` for a negative angle, and integer images.
    """
    check_real("random_rotation", images)
    check_strength("random_rotation", "degrees", degrees)
    angles = jnp.deg2rad(jax.random.uniform(key, (images.shape[0],), minval=-degrees, maxval=degrees))
    return jax.vmap(lambda image, angle: rotate(image, angle, fill))(images, angles)


def rotate(images: Num[Array, "..."], angle: Strength, fill: Strength = 0.0) -> Num[Array, "..."]:
    """Images turned anticlockwise by `angle` (radians) about their middle, by bilinear interpolation.

    The angle may be traced, `fill` not. Raises `ValueError` for integer images and a traced fill.
    """
    images = jnp.asarray(images)
    check_rank("rotate", images, (3, 4))
    check_real("rotate", images)
    check_fill("rotate", fill, images)
    if isinstance(fill, jax.core.Tracer):
        raise ValueError("rotate: fill must be known before compiling, and is traced; pass a plain number")
    if images.ndim == 4:
        return jax.vmap(lambda image: rotate(image, angle, fill))(images)
    height, width = images.shape[:2]
    rows, columns = jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2
    y, x = jnp.meshgrid(rows, columns, indexing="ij")
    # Where every pixel comes from; rows count downwards.
    sources = [
        jnp.cos(angle) * y + jnp.sin(angle) * x + (height - 1) / 2,
        jnp.cos(angle) * x - jnp.sin(angle) * y + (width - 1) / 2,
    ]
    take = lambda channel: jax.scipy.ndimage.map_coordinates(channel, sources, order=1, cval=float(fill))  # noqa: E731
    return jax.vmap(take, in_axes=-1, out_axes=-1)(images)


@one_or_many
def colour_jitter(
    key: Key,
    images: Num[Array, "..."],
    *,
    brightness: Strength = 0.0,
    contrast: Strength = 0.0,
    saturation: Strength = 0.0,
) -> Num[Array, "..."]:
    """Change images in [0, 1] by factors uniform in 1 ± strength, one of each per image, and clip to [0, 1].

    Brightness scales values, contrast their distance from the mean grey of the image, saturation that from the grey of
    the pixel (so one channel keeps its values). All strengths 0 is the identity, whatever the range of the images.
    Raises `ValueError` for strengths outside [0, 1], and integer images.
    """
    check_real("colour_jitter", images)
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, strength in strengths.items():
        check_strength("colour_jitter", name, strength, 1)
    factors = jax.random.uniform(key, (3, images.shape[0], 1, 1, 1), minval=-1.0)
    bright, contrasted, saturated = (1 + s * f for s, f in zip(strengths.values(), factors, strict=True))
    changed = images * bright.astype(images.dtype)
    changed = _away_from(changed.mean((1, 2, 3), keepdims=True), changed, contrasted)
    changed = _away_from(changed.mean(-1, keepdims=True), changed, saturated)
    active = sum(jnp.asarray(strength) for strength in strengths.values()) > 0
    return jnp.where(active, jnp.clip(changed, 0, 1), images)


def _away_from(grey: Array, images: Array, factor: Array) -> Array:
    # In this form a factor of 1 changes no bit.
    return images + (factor - 1).astype(images.dtype) * (images - grey)
