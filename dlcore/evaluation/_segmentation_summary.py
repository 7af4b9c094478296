"""What a segmentation's logits add up to over batches, and the metrics of the sums (lecture 25)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from dlcore.evaluation import _metrics as metrics
from dlcore.evaluation import _segmentation as segmentation
from dlcore.operands import Discrete, class_labels, has_shape
from dlcore.types import Mean


def segmentation_sums(
    logits: Float[Array, "b h w c"],
    labels: Discrete[Array, "b h w"],
    *,
    ignore: int | None = None,
    where: Discrete[Array, "b h w"] | None = None,
    tolerance: float = 1.0,
) -> dict[str, Any]:
    """`confusion`, `boundary` (within `tolerance` pixels), `image_iou` and `nll_nats` (−log p(y|x) per pixel).

    They are of the pixels that `where` marks and that are not `ignore`, and add up over batches. Raises `ValueError`
    for shapes that do not fit, and outside `jit` for labels out of range.
    """
    has_shape("segmentation_sums", "labels", labels, logits.shape[:-1], "one per pixel")
    classes, predicted = logits.shape[-1], logits.argmax(-1)
    index, _, counted = class_labels("segmentation_sums", labels, labels.shape, classes, ignore=ignore, where=where)
    log_p = jax.nn.log_softmax(jnp.asarray(logits, jnp.promote_types(logits.dtype, jnp.float32)))
    nll = -jnp.take_along_axis(log_p, index[..., None], axis=-1)[..., 0]
    options = {"ignore": ignore, "where": where}
    by_image = segmentation.image_iou(predicted, labels, classes, **options)
    return {
        "confusion": metrics.confusion_matrix(predicted, labels, classes, **options),
        "boundary": segmentation.boundary(predicted, labels, classes, tolerance=tolerance, **options),
        "image_iou": Mean.of(by_image, jnp.isfinite(by_image)),
        "nll_nats": Mean.of(nll, jnp.ones(nll.shape, bool) if counted is None else counted),
    }


def segmentation_summary(found: Mapping[str, Any]) -> dict[str, float]:
    """`miou`, `pixel_accuracy`, `image_iou`, `boundary_f` and `nll_nats` of the added-up sums, of all pixels at once.

    A class that neither truth nor prediction has is left out.
    """
    confusion = np.asarray(found["confusion"])
    return {
        "miou": float(segmentation.mean_iou(confusion)),
        "pixel_accuracy": float(np.trace(confusion) / confusion.sum()),
        "image_iou": float(found["image_iou"].value()),
        "boundary_f": float(jnp.nanmean(segmentation.boundary_f(found["boundary"]))),
        "nll_nats": float(found["nll_nats"].value()),
    }


def iou_by_name(confusion: Integer[np.ndarray, "c c"], names: Sequence[str]) -> dict[str, float]:
    """`iou_NAME` of each class that truth or prediction has, blanks as underscores."""
    ious = zip(names, np.asarray(metrics.iou(confusion)), strict=True)
    return {f"iou_{name.replace(' ', '_')}": float(value) for name, value in ious if np.isfinite(value)}
