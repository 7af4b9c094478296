"""Pictures for segmentation, composed of single objects on a cluttered ground, with exact masks (lecture 25).

    image, mask = compose_scenes(keys, objects, labels, side=64, levels=256)

Class 0 is the ground, class k + 1 the objects of label k. Objects of one split make the pictures of that split: none is
in training and test.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from dlcore.data._arguments import check_count
from dlcore.data._preprocess import row_keys
from dlcore.data._source import Data, Rows, Split, in_memory
from dlcore.setting import number
from dlcore.types import Key

GROUND = 0.35
"""Brightness of the brightest ground, and of the fragments on it."""
FRAGMENTS = 4


def compose_scenes(
    keys: Key,
    objects: UInt8[Array, "b k h w c"],
    labels: Int[Array, "b k"],
    *,
    side: int,
    levels: int = 256,
    enlarge: int = 1,
    visible: float = 0.0,
    opaque: float = 1 / 16,
) -> tuple[UInt8[Array, "b s s c"], Int[Array, "b s s"]]:
    """Pictures uint8 [b, side, side, c] and masks of classes int32 [b, side, side], a function of each row's key.

    Of the k objects the first is always there, each other with probability ¾; all lie wholly inside at random places,
    the first behind the others. One that would leave less than the share `visible` of an object behind it to be seen
    is left out: of a digit of which a corner shows nobody can tell which it is. The mask is that of an object's own
    pixels brighter than the share `opaque` of the brightest level, as far as they are seen; darker ones cover nothing.
    The ground is smooth noise, with fragments of a quarter of the objects' sides in half their brightness. Objects of
    few pixels can be drawn `enlarge` times as large, by bilinear interpolation: of 8×8 pixels most lie at the edge,
    where a dark one cannot be told from the ground.
    Raises `ValueError` for a side that is smaller than the objects, for `enlarge` below 1, and for `visible` and
    `opaque` that are no shares.
    """
    check_count("compose_scenes", "enlarge", enlarge)
    if enlarge < 1:
        raise ValueError(f"compose_scenes: enlarge must be at least 1, got {enlarge}")
    number(visible, "compose_scenes: visible", "[0, 1]")
    number(opaque, "compose_scenes: opaque", "[0, 1)")
    if enlarge > 1:
        sides = (enlarge * objects.shape[2], enlarge * objects.shape[3])
        larger = jax.image.resize(objects.astype(jnp.float32), (*objects.shape[:2], *sides, objects.shape[4]), "linear")
        objects = jnp.round(larger).astype(objects.dtype)
    height, width = objects.shape[2:4]
    if side < max(height, width):
        raise ValueError(f"compose_scenes: objects of {height}×{width} do not fit a canvas of side {side}")
    return jax.vmap(lambda key, o, y: _scene(key, o, y, side, opaque * (levels - 1), visible, levels))(
        keys, objects, labels
    )


def _scene(
    key: Key,
    objects: UInt8[Array, "k h w c"],
    labels: Int[Array, " k"],
    side: int,
    opaque: float,
    visible: float,
    levels: int,
) -> tuple[UInt8[Array, "s s c"], Int[Array, "s s"]]:
    places, there, ground = jax.random.split(key, 3)
    count, height, width, _ = objects.shape
    tops = jax.random.randint(places, (2, count), 0, jnp.array([[side - height + 1], [side - width + 1]]))
    present = (jax.random.uniform(there, (count,)) < 0.75).at[0].set(True)
    image = jnp.round(_ground(ground, objects, side, levels)).astype(jnp.uint8)
    mask, seen, sizes = jnp.zeros((side, side), jnp.int32), jnp.zeros((count, side, side), bool), jnp.zeros(count)
    for j in range(count):
        placed = _placed(objects[j], side, tops[0, j], tops[1, j])
        own = placed.max(-1) > opaque
        left = (seen & ~own).sum((1, 2))
        own &= present[j] & (left >= visible * sizes).all()
        seen, sizes = (seen & ~own).at[j].set(own), sizes.at[j].set(own.sum())
        image = jnp.where(own[..., None], placed, image)
        mask = jnp.where(own, labels[j] + 1, mask)
    return image, mask


def _placed(image: Array, side: int, top: Array, left: Array) -> Array:
    """The image [h, w, c] on a canvas of zeros [side, side, c], its corner at (top, left)."""
    height, width = image.shape[:2]
    wide = jnp.pad(image, ((0, side - height), (0, side - width), (0, 0)))
    return wide[(jnp.arange(side) - top) % side][:, (jnp.arange(side) - left) % side]


def _ground(key: Key, objects: UInt8[Array, "k h w c"], side: int, levels: int) -> Float[Array, "s s c"]:
    """Smooth noise with fragments of the objects, as levels."""
    noise, cuts, places = jax.random.split(key, 3)
    count, height, width, channels = objects.shape
    coarse = jax.random.uniform(noise, (4, 4, channels), maxval=GROUND * (levels - 1))
    ground = jax.image.resize(coarse, (side, side, channels), "linear")
    size = (max(height // 4, 2), max(width // 4, 2))
    # From the middle of an object, where there is something to see.
    tops = jax.random.randint(
        cuts, (FRAGMENTS, 2), jnp.array(size), jnp.array([height, width]) - 2 * jnp.array(size) + 1
    )
    corners = jax.random.randint(places, (FRAGMENTS, 2), 0, side - max(size) + 1)
    for i in range(FRAGMENTS):
        cut = jax.lax.dynamic_slice(objects[i % count], (*tops[i], 0), (*size, channels))
        ground = jnp.maximum(ground, 0.5 * _placed(cut, side, *corners[i]))
    return ground


def scenes_of_batch(
    key: Key,
    images: UInt8[Array, "b h w c"],
    labels: Int[Array, " b"],
    *,
    objects: int,
    **options: Any,
) -> tuple[UInt8[Array, "b s s c"], Int[Array, "b s s"]]:
    """As many pictures as the batch has objects: each of `objects` rows in turn, drawn anew for every key.

    `options` are those of `compose_scenes`.
    """
    turned = [jnp.roll(x, -j, axis=0) for x in (images, labels) for j in range(objects)]
    stacks = jnp.stack(turned[:objects], 1), jnp.stack(turned[objects:], 1)
    return _compose(jax.random.split(key, len(images)), *stacks, **options)


# Starting and stepping share what is traced.
_compose = jax.jit(compose_scenes, static_argnames=("side", "levels", "enlarge", "visible", "opaque"))


def scene_split(split: Split, *, seed: int, objects: int, most: int = 100, **options: Any) -> Split:
    """A fixed picture for every row of a split of labelled images: `image`, `mask`, and its first object's `label`.

    Row i shows the object of row i and those of other rows of the split; a function of the seed and the rows alone.
    `options` are those of `compose_scenes`; `most` pictures are made at once.
    """
    size = split.size
    rng = np.random.default_rng(seed)
    partners = np.stack([np.arange(size), *(rng.permutation(size) for _ in range(objects - 1))], 1)
    key, parts = jax.random.key(seed), []
    for start in range(0, size, most):
        # All parts of all splits are filled up to the same size, so that there is one program.
        numbers = np.arange(start, start + most)
        read = split.read(partners[numbers % size].reshape(-1))
        keys = row_keys(key, jnp.asarray(numbers))
        grouped = {k: v.reshape(len(numbers), objects, *v.shape[1:]) for k, v in read.items()}
        composed = _compose(keys, grouped["image"], grouped["label"], **options)
        parts.append(jax.device_get(composed))
    images, masks = (np.concatenate(part)[:size] for part in zip(*parts, strict=True))
    rows: Rows = {"image": images, "mask": masks.astype(np.uint8), "label": split.read(np.arange(size))["label"]}
    return in_memory(rows)


def with_scenes(data: Data, **options: Any) -> Data:
    """The data with fixed pictures for validation and test, by `scene_split` with these options.

    Training pictures are composed in every step.
    """
    composed = {"levels": data.spec.levels} | options
    held, test = (scene_split(part, seed=seed, **composed) for seed, part in ((1, data.validation), (2, data.test)))
    return data._replace(validation=held, test=test)
