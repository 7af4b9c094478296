"""Figures of segmentation: masks beside their images, and IoU by class."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dlcore.report.figures import BLUE, GREY
from dlcore.report.images import show
from dlcore.report.text import shown

IGNORED = 255
PAPER, WRONG, FADED = (0.92, 0.92, 0.92), (0.84, 0.15, 0.16), 0.35


def colours(classes: int) -> np.ndarray:
    """A colour [classes, 3] per class: the first, the ground, nearly black."""
    names = "tab10" if classes <= 11 else "tab20" if classes <= 21 else "turbo"
    count = max(classes - 1, 1)
    table = colormaps[names]
    spread = [table(i) if names != "turbo" else table(i / count) for i in range(count)]
    return np.array([(0.08, 0.08, 0.08), *(colour[:3] for colour in spread)])


def painted(masks: np.ndarray, classes: int) -> np.ndarray:
    """Masks of class numbers [n, h, w] in colours [n, h, w, 3]; what is ignored is light grey."""
    table = np.concatenate([colours(classes), [PAPER]])
    return table[np.where(masks == IGNORED, classes, masks)]


def errors(images: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Images [n, h, w, c] in [0, 1], faded, with wrong pixels in red: [n, h, w, 3]."""
    grey = np.repeat(images.mean(-1, keepdims=True), 3, -1)
    wrong = (truth != predicted) & (truth != IGNORED)
    return np.where(wrong[..., None], WRONG, 1 - FADED + FADED * grey)


def examples(
    images: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray,
    title: str = "",
) -> Figure:
    """Columns of image, truth, prediction and error, with the IoU of each image over it, and a legend of classes.

    Images [n, h, w, c] in [0, 1], masks [n, h, w].
    """
    parts = {
        "image": images,
        "truth": painted(truth, len(names)),
        "prediction": painted(predicted, len(names)),
        "error": errors(images, truth, predicted),
    }
    count = len(images)
    height = 1.25 * min(images.shape[1] / images.shape[2], 2.0)
    figure = Figure(figsize=(1.25 * count + 2.2, 4 * height + 0.8), layout="constrained")
    axes = figure.subplots(len(parts), count, squeeze=False)
    for line, (label, pictures) in zip(axes, parts.items(), strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            show(ax, picture)
        line[0].set_ylabel(label, fontsize=9)
    for ax, score in zip(axes[0], scores, strict=True):
        ax.set_title(f"IoU {score:.3f}", fontsize=8)
    handles = [Patch(color=c, label=shown(n, 14)) for c, n in zip(colours(len(names)), names, strict=True)][:25]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def by_class(iou: np.ndarray, names: Sequence[str], mean: float) -> Figure:
    """Bars of IoU [c] by class, classes that never occur left out, and the mean."""
    kept = np.flatnonzero(np.isfinite(iou))
    figure = Figure(figsize=(6.0, min(1.2 + 0.32 * len(kept), 12)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(np.arange(len(kept)), iou[kept], color=BLUE, height=0.7)
    axes.axvline(mean, color=GREY, linestyle="--", linewidth=1, zorder=0)  # behind the bars and their numbers
    for place, k in enumerate(kept):
        inside = iou[k] > 0.15
        axes.text(
            iou[k] + (-0.01 if inside else 0.01),
            place,
            f"{iou[k]:.3f}",
            ha="right" if inside else "left",
            va="center",
            fontsize=8,
            color="white" if inside else "black",
        )
    axes.set_yticks(np.arange(len(kept)), [shown(names[k], 18) for k in kept], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("intersection over union, all test pixels")
    axes.set_title(f"mean IoU {mean:.3f}", fontsize=10)
    return figure
