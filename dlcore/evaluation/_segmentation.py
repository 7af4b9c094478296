"""Metrics of segmentation (lecture 25): mean IoU, IoU by image, and how well boundaries are met.

Counts add up over batches, and are divided once at the end. A class that neither truth nor prediction has is left out
(NaN), one that the truth lacks and the prediction has counts 0, and pixels that are ignored leave both.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from dlcore.evaluation._metrics import confusion_matrix, iou
from dlcore.operands import Discrete, class_labels, equal_shapes, known


def mean_iou(confusion: Integer[Array, "c c"] | Integer[np.ndarray, "c c"]) -> Float[Array, ""]:
    """The mean of `iou` over the classes that occur in truth or prediction; NaN where nothing was counted.

    >>> truth, predicted = jnp.array([0, 0, 1, 1]), jnp.array([0, 2, 1, 1])
    >>> print(mean_iou(confusion_matrix(predicted, truth, 3)))
    0.5
    """
    return jnp.nanmean(iou(confusion))


def image_iou(
    predicted: Discrete[Array, "b *space"],
    labels: Discrete[Array, "b *space"],
    classes: int,
    *,
    ignore: int | None = None,
    where: Discrete[Array, "b *space"] | None = None,
) -> Float[Array, " b"]:
    """`mean_iou` of every image alone; NaN for one without pixels that count. Large and small objects weigh alike.

    Raises `ValueError` for shapes that do not fit, and outside `jit` for labels out of range.
    """
    shape = equal_shapes("image_iou", predicted=predicted, labels=labels)
    _, inside, counted = class_labels("image_iou", labels, shape, classes, ignore=ignore, where=where)
    counted = jnp.ones(shape, bool) if counted is None else counted
    found = jax.vmap(lambda p, t, w: mean_iou(confusion_matrix(p, t, classes, where=w)))(predicted, labels, counted)
    fine = (inside | ~counted).reshape(len(found), -1).all(-1)
    return jnp.where(fine, found, jnp.nan)


class Boundary(NamedTuple):
    """Per class: boundary pixels of the prediction near the truth's, all of the prediction, and the same the other way.

    They add up over batches.
    """

    met: Int[Array, " c"]
    predicted: Int[Array, " c"]
    found: Int[Array, " c"]
    true: Int[Array, " c"]


def boundary(
    predicted: Discrete[Array, "b h w"],
    labels: Discrete[Array, "b h w"],
    classes: int,
    *,
    tolerance: float = 1.0,
    ignore: int | None = None,
    where: Discrete[Array, "b h w"] | None = None,
) -> Boundary:
    """How many boundary pixels lie within `tolerance` pixels (Euclidean distance) of one of the other map, by class.

    A boundary pixel of a class is one of it with a neighbour above, below, left or right of another class. The edge of
    the image is no boundary, and neither is that of what `ignore` and `where` leave out of both maps (Csurka et al.
    2013). Work grows with tolerance². Raises `ValueError` for shapes that do not fit, a negative tolerance, and outside
    `jit` for labels out of range, which are pixels of no class inside.
    """
    if not tolerance >= 0:
        raise ValueError(f"boundary: tolerance must not be negative, got {tolerance} pixels")
    shape = equal_shapes("boundary", predicted=predicted, labels=labels)
    _, _, counted = class_labels("boundary", labels, shape, classes, ignore=ignore, where=where)
    counted = jnp.ones(shape, bool) if counted is None else counted
    if known(counted, predicted):
        class_labels("boundary", predicted, shape, classes, name="predicted", where=counted)
    edges = [_edges(labels_of, counted, classes) for labels_of in (predicted, labels)]
    near = [_dilated(edge, tolerance) for edge in edges]
    sums = [(edges[0] & near[1]), edges[0], (edges[1] & near[0]), edges[1]]
    return Boundary(*(x.sum((0, 1, 2), dtype=jnp.int32) for x in sums))


def boundary_f(counts: Boundary) -> Float[Array, " c"]:
    """2PR/(P + R) per class, P = met/predicted and R = found/true; NaN for a class without a boundary in both maps.

    A boundary that only one of them has counts 0. Raises `ValueError` for counts of different shapes.
    """
    equal_shapes("boundary_f", **counts._asdict())
    met, predicted, found, true = (jnp.asarray(x, jnp.float32) for x in counts)
    precision, recall = met / jnp.maximum(predicted, 1), found / jnp.maximum(true, 1)
    total = precision + recall
    f = jnp.where(total > 0, 2 * precision * recall / jnp.where(total > 0, total, 1.0), 0.0)
    return jnp.where(predicted + true > 0, f, jnp.nan)


def _edges(labels: Array, counted: Bool[Array, "b h w"], classes: int) -> Bool[Array, "b h w c"]:
    """Pixels with a neighbour of another class, under their class."""
    different = jnp.zeros(labels.shape, bool)
    for axis in (1, 2):
        low, high = (slice(None),) * axis + (slice(None, -1),), (slice(None),) * axis + (slice(1, None),)
        step = (labels[low] != labels[high]) & counted[low] & counted[high]
        pads = [(0, 0)] * 3
        for side in ((0, 1), (1, 0)):
            pads[axis] = side
            different |= jnp.pad(step, pads)
    return different[..., None] & (labels[..., None] == jnp.arange(classes))


def _dilated(x: Bool[Array, "b h w c"], radius: float) -> Bool[Array, "b h w c"]:
    """Whether any pixel within the radius is marked."""
    height, width = x.shape[1:3]
    reach = math.floor(radius)
    rows, columns = min(reach, height - 1), min(reach, width - 1)
    wide = jnp.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    found = x
    for i in range(-rows, rows + 1):
        for j in range(-columns, columns + 1):
            if 0 < i * i + j * j <= radius * radius:
                found |= wide[:, rows + i : rows + i + height, columns + j : columns + j + width]
    return found
