"""Standardised images with augmentations in training, as classifiers see them (lecture 11.4)."""

from typing import Any

import jax
import numpy as np

from dlcore.data import (
    DataSpec,
    cutmix,
    cutout,
    mixup,
    random_flip,
    random_resized_crop,
    random_rotation,
    random_shift,
    scale,
    standardize,
    views,
)
from dlcore.train._builders import standardized
from dlcore.train._ensemble import average_probabilities
from dlcore.train._step import Preprocess
from dlcore.types import Batch, Key, Model, Params, State


def augmented(
    spec: DataSpec,
    *,
    shift: int = 0,
    flip: bool = False,
    rotation: float = 0.0,
    cut: int = 0,
    mix: float = 0.0,
    cut_mix: float = 0.0,
    area: float = 0.0,
) -> Preprocess:
    """Pixels to standardised floats; in training moved by up to `shift` pixels, mirrored, rotated by up to so many
    degrees, with a grey square of `cut` pixels, mixed by `mixup` and `cutmix` of these α, and before all that a random
    part of at least the fraction `area` of an image, enlarged.

    With mixtures a training batch has a `target` [b, classes]. What is 0 or false is left out. Points are standardised,
    as `image`; raises `ValueError` for an augmentation of them.
    """
    if len(spec.shape) == 1:
        if shift or flip or rotation or cut or mix or cut_mix or area:
            raise ValueError(f"augmentations are for images, and {spec.name} has points; leave them out")
        return standardized(spec, "image")
    chosen = {
        6: (area, lambda key, x: random_resized_crop(key, x, (area, 1.0))),
        0: (shift, lambda key, x: random_shift(key, x, shift)),
        1: (flip, random_flip),
        2: (rotation, lambda key, x: random_rotation(key, x, rotation, _black(spec))),
        3: (cut, lambda key, x: cutout(key, x, cut)),
    }

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        images = standardize(scale(batch["image"], spec.levels), spec.mean, spec.std)
        if not train:
            return {**batch, "image": images}
        for i, (strength, augment) in chosen.items():
            images = augment(jax.random.fold_in(key, i), images) if strength else images
        if not (mix > 0 or cut_mix > 0):
            return {**batch, "image": images}
        target = jax.nn.one_hot(batch["label"], spec.classes)
        images, target = mixup(jax.random.fold_in(key, 4), images, target, mix)
        images, target = cutmix(jax.random.fold_in(key, 5), images, target, cut_mix)
        return {**batch, "image": images, "target": target}

    return preprocess


def _black(spec: DataSpec) -> float:
    """The standardised value of a black pixel."""
    return float(np.mean((0 - np.asarray(spec.mean)) / np.asarray(spec.std)))


def over_views(model: Model, *, shift: int = 0, flip: bool = False) -> Any:
    """`(params, state, images) -> logits`; with a shift or flip log-probabilities, averaged over those views of an
    image. Raises `ValueError` for a negative shift."""
    if shift < 0:
        raise ValueError(f"test_shift must not be negative, got {shift}")

    def predict(params: Params, state: State, images: jax.Array) -> jax.Array:
        logits = lambda images: model.apply(params, state, images)[0]  # noqa: E731
        if not flip and not shift:
            return logits(images)
        return average_probabilities(jax.vmap(logits)(views(images, shift, flip=flip)))

    return predict
