"""Random changes of images that keep their label (lecture 11.4): jitted, one draw per image."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.types import Key

Augmentation = Callable[[Key, Array], Array]
"""`(key, images [b, h, w, c]) -> images`."""


def chain(*augmentations: Augmentation) -> Augmentation:
    """One after the other, each with a key of its own."""

    def augment(key: Key, images: Array) -> Array:
        for i, augmentation in enumerate(augmentations):
            images = augmentation(jax.random.fold_in(key, i), images)
        return images

    return augment


def random_shift(key: Key, images: Float[Array, "b h w c"], pixels: int) -> Float[Array, "b h w c"]:
    """Translate by up to `pixels` in each direction, uniformly; the border repeats its edge. 0 is the identity."""
    if pixels < 0:
        raise ValueError(f"random_shift: pixels must not be negative, got {pixels}")
    if pixels == 0:
        return images
    for axis in (1, 2):
        size = images.shape[axis]
        offsets = jax.random.randint(jax.random.fold_in(key, axis), (images.shape[0], 1), -pixels, pixels + 1)
        index = jnp.clip(jnp.arange(size) + offsets, 0, size - 1)
        index = index[:, :, None, None] if axis == 1 else index[:, None, :, None]
        images = jnp.take_along_axis(images, index, axis=axis)
    return images


def random_crop(key: Key, images: Float[Array, "b h w c"], padding: int, fill: float = 0.0) -> Float[Array, "b h w c"]:
    """Pad by `padding` pixels of value `fill` and cut a window of the old size at a uniform place. 0 is the identity.

    He et al. 2015, section 4.2. Raises `ValueError` for a negative padding.
    """
    if padding < 0:
        raise ValueError(f"random_crop: padding must not be negative, got {padding}")
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, sides, constant_values=fill)
    starts = jax.random.randint(key, (images.shape[0], 2), 0, 2 * padding + 1)

    def cut(image: Array, start: Array) -> Array:
        return jax.lax.dynamic_slice(image, (start[0], start[1], 0), images.shape[1:])

    return jax.vmap(cut)(padded, starts)


def random_flip(key: Key, images: Float[Array, "b h w c"], probability: float = 0.5) -> Float[Array, "b h w c"]:
    """Mirror left and right with the given probability. 0 is the identity."""
    flipped = jax.random.bernoulli(key, probability, (images.shape[0], 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def views(images: Float[Array, "b h w c"], pixels: int = 0, *, flip: bool = False) -> Float[Array, "v b h w c"]:
    """The same images as test-time augmentation sees them, the unchanged ones first.

    With `pixels` above 0 they are also moved by so many up, down, left and right, the border repeating its edge (5
    views); with `flip` a mirror image of every view follows (twice as many). A prediction averaged over the views is
    invariant to mirroring, and nearly so to small shifts. Raises `ValueError` for negative pixels.
    """
    if pixels < 0:
        raise ValueError(f"views: pixels must not be negative, got {pixels}")
    found = [images]
    if pixels:
        height, width = images.shape[1:3]
        padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
        for y, x in ((2, 1), (0, 1), (1, 2), (1, 0)):
            found.append(padded[:, y * pixels : y * pixels + height, x * pixels : x * pixels + width])
    if flip:
        found += [view[:, :, ::-1] for view in found]
    return jnp.stack(found)


def cutout(key: Key, images: Float[Array, "b h w c"], size: int, fill: float = 0.0) -> Float[Array, "b h w c"]:
    """Fill a square of `size` pixels around a random pixel (DeVries & Taylor 2017). 0 is the identity."""
    if size < 0:
        raise ValueError(f"cutout: size must not be negative, got {size}")
    inside = jnp.ones((images.shape[0], 1, 1, 1), bool)
    for axis in (1, 2):
        n = images.shape[axis]
        start = jax.random.randint(jax.random.fold_in(key, axis), (images.shape[0], 1), 0, n) - size // 2
        cells = (jnp.arange(n) >= start) & (jnp.arange(n) < start + size)
        inside &= cells[:, :, None, None] if axis == 1 else cells[:, None, :, None]
    return jnp.where(inside, jnp.asarray(fill, images.dtype), images)


def random_rotation(
    key: Key, images: Float[Array, "b h w c"], degrees: float, fill: float = 0.0
) -> Float[Array, "b h w c"]:
    """Turn about the middle by an angle uniform in ±`degrees`, bilinear, with `fill` outside. 0 is the identity.

    Raises `ValueError` for a negative angle.
    """
    if degrees < 0:
        raise ValueError(f"random_rotation: degrees must not be negative, got {degrees}")
    angles = jnp.deg2rad(jax.random.uniform(key, (images.shape[0],), minval=-degrees, maxval=degrees))
    return jax.vmap(lambda image, angle: rotate(image, angle, fill))(images, angles)


def rotate(image: Float[Array, "h w c"], angle: Float[Array, ""] | float, fill: float = 0.0) -> Float[Array, "h w c"]:
    """An image turned anticlockwise by `angle` (radians) about its middle, by bilinear interpolation."""
    height, width = image.shape[:2]
    rows, columns = jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2
    y, x = jnp.meshgrid(rows, columns, indexing="ij")
    # Where every pixel comes from; rows count downwards.
    sources = [
        jnp.cos(angle) * y + jnp.sin(angle) * x + (height - 1) / 2,
        jnp.cos(angle) * x - jnp.sin(angle) * y + (width - 1) / 2,
    ]
    take = lambda channel: jax.scipy.ndimage.map_coordinates(channel, sources, order=1, cval=fill)  # noqa: E731
    return jax.vmap(take, in_axes=-1, out_axes=-1)(image)


def colour_jitter(
    key: Key,
    images: Float[Array, "b h w c"],
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
) -> Float[Array, "b h w c"]:
    """Change images in [0, 1] by factors uniform in 1 ± strength, one of each per image, and clip. 0 is the identity.

    Brightness scales values, contrast their distance from the mean grey of the image, saturation that from the grey of
    the pixel. Raises `ValueError` for strengths outside [0, 1].
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
    for name, strength in strengths.items():
        if not 0 <= strength <= 1:
            raise ValueError(f"colour_jitter: {name} must lie in [0, 1], got {strength}")
    factors = jax.random.uniform(key, (3, images.shape[0], 1, 1, 1), minval=-1.0)
    bright, contrasted, saturated = (1 + s * f for s, f in zip(strengths.values(), factors, strict=True))
    images = images * bright
    images = _away_from(images.mean((1, 2, 3), keepdims=True), images, contrasted)
    images = _away_from(images.mean(-1, keepdims=True), images, saturated)
    return jnp.clip(images, 0, 1)


def _away_from(grey: Array, images: Array, factor: Array) -> Array:
    # In this form a factor of 1 changes no bit.
    return images + (factor - 1) * (images - grey)
