"""The places of a data set that a channel answers to most, and what of the image it sees there (lecture 17)."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dlcore.nn import extent, influence
from dlcore.setting import whole
from dlcore.types import Key, Model, Params, State
from dlcore.visualize._features import feature_maps


class Top(NamedTuple):
    """The strongest answers of every channel, the largest first: [c, k]."""

    values: Float[np.ndarray, "c k"]
    images: Int[np.ndarray, "c k"]
    """Numbers of the images in the data set."""
    sites: Int[np.ndarray, "c k s"]
    """Places in the outputs of the part."""


def top_patches(
    model: Model, params: Params, state: State, batches: Iterable[Array], path: str, *, count: int = 9
) -> Top:
    """For each channel of the part at `path` the `count` images that it answers to most, and where (Zeiler & Fergus).

    Of every image its largest answer counts; of equal ones the first does. `batches` [b, ..., c] go over the data set
    in order and may differ in size; memory does not grow with their number. Raises `ValueError` for a path that there
    is not, for outputs without places, and for less than `count` images.
    """
    count, found, seen = whole(count, "top_patches: count"), None, 0
    for x in batches:
        values, sites = map(np.asarray, _strongest(model, params, state, x, path))
        numbers = np.broadcast_to(np.arange(seen, seen + len(x)), values.shape)
        new = Top(values, numbers, sites)
        found = new if found is None else Top(*(np.concatenate(pair, axis=1) for pair in zip(found, new, strict=True)))
        order = np.argsort(-found.values, axis=1, kind="stable")[:, :count]
        rows = np.arange(len(order))[:, None]
        found, seen = Top(*(part[rows, order] for part in found)), seen + len(x)
    if seen < count:
        raise ValueError(f"top_patches: count must be at most {seen}, the images that there are, got {count}")
    return found


@functools.partial(jax.jit, static_argnames=("model", "path"))
def _strongest(model: Model, params: Params, state: State, x: Array, path: str) -> tuple[Array, Array]:
    """The largest answer [c, b] of each channel to each image, and its place [c, b, s]."""
    outputs = feature_maps(model, params, state, x, path)
    if outputs.ndim < 3:
        raise ValueError(f"top_patches: part {path!r} gives {outputs.shape}, which has no places; take [b, *space, c]")
    flat = jnp.moveaxis(outputs.reshape(len(x), -1, outputs.shape[-1]), -1, 0)
    places = jnp.unravel_index(flat.argmax(-1), outputs.shape[1:-1])
    return flat.max(-1), jnp.stack(places, -1)


def seen_from(
    model: Model,
    params: Params,
    state: State,
    shape: Sequence[int],
    path: str,
    site: Sequence[int],
    *,
    key: Key,
    draws: int = 4,
) -> list[tuple[int, int]]:
    """First and last cell, along every axis of images of `shape` (h, w, c), that the part at `path` sees from `site`.

    By gradients at so many draws of noise, of all channels, as rectifiers and pools hide some at each.
    """
    total = np.zeros(shape[:-1], np.float32)
    for i in range(whole(draws, "seen_from: draws")):
        draw, weigh = jax.random.split(jax.random.fold_in(key, i))
        x = jax.random.normal(draw, (1, *shape))
        total += np.asarray(_influence(model, params, state, x, jnp.asarray(site), path, weigh))
    return extent(total > 0)


def boxes(
    model: Model,
    params: Params,
    state: State,
    shape: Sequence[int],
    path: str,
    sites: Int[np.ndarray, "*b s"],
    *,
    key: Key,
) -> Int[np.ndarray, "*b s 2"]:
    """What `seen_from` gives for every one of the places, each of which is asked for once."""
    flat = [tuple(map(int, site)) for site in sites.reshape(-1, sites.shape[-1])]
    seen = {site: seen_from(model, params, state, shape, path, site, key=key) for site in set(flat)}
    return np.array([seen[site] for site in flat]).reshape(*sites.shape, 2)


@functools.partial(jax.jit, static_argnames=("model", "path"))
def _influence(model: Model, params: Params, state: State, x: Array, site: Array, path: str, key: Key) -> Array:
    return influence(lambda x: feature_maps(model, params, state, x, path), x, tuple(site), key=key)


def cut_out(image: Float[np.ndarray, "*s c"], box: Sequence[tuple[int, int]]) -> Float[np.ndarray, "*p c"]:
    """The cells from first to last along every axis: what a place has seen of an image."""
    return image[tuple(slice(first, last + 1) for first, last in box)]
