"""What a classifier gets wrong on the test split, as panels (lecture 11.6), and its regions in the plane."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dlcore import report
from dlcore.data import Data
from dlcore.evaluation import calibration, confusion_matrix
from dlcore.report.panel import Panel, panel
from dlcore.train._builders import map_split
from dlcore.types import Batch


def mistakes(logits: Callable[[Any], jax.Array], data: Data, most: int = 24) -> dict[str, Panel]:
    """Confusion matrix, the most confident mistakes, and calibration of `logits(images)`, grey levels in."""
    probabilities, labels = _judged(logits, data, "image")
    predicted, confidence = probabilities.argmax(-1), probabilities.max(-1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong])][:most]
    images = data.test.read(worst)["image"] / (data.spec.levels - 1)
    names = data.spec.class_names
    worst = panel("figures.mistakes", images, labels[worst], predicted[worst], confidence[worst], names)
    return {"mistakes": worst, **_counted(probabilities, labels, data)}


def decision_regions(logits: Callable[[Any], jax.Array], data: Data, size: int = 200) -> dict[str, Panel]:
    """Where each class is the most probable in the plane, beside confusion and calibration, of `logits(points)`.

    Points of other than two dimensions have no plane to be drawn in.
    """
    probabilities, labels = _judged(logits, data, "point")
    panels = _counted(probabilities, labels, data)
    if data.spec.shape != (2,):
        return panels
    points = data.test.all()["point"]
    low, high = report.density.square(points)
    over = jax.nn.softmax(jax.jit(logits)(report.density.grid(low, high, size).astype(np.float32))).reshape(
        size, size, -1
    )
    drawn = panel("density.regions", low, high, np.asarray(over), points, labels, data.spec.class_names)
    return {"regions": drawn, **panels}


def _judged(logits: Callable[[Any], jax.Array], data: Data, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the classes and labels of the test split."""

    def probabilities_of(batch: Batch) -> tuple[jax.Array, jax.Array]:
        return jax.nn.softmax(logits(batch[name])), batch["label"]

    return map_split(probabilities_of, data.test, 500)


def _counted(probabilities: np.ndarray, labels: np.ndarray, data: Data) -> dict[str, Panel]:
    # Compiled as a whole: operation by operation each would be a program of its own.
    counted = jax.jit(lambda p, y: (calibration(p, y), confusion_matrix(p.argmax(-1), y, data.spec.classes)))
    bins, confusion = counted(probabilities, labels)
    return {
        "confusion": panel("figures.confusion", np.asarray(confusion), data.spec.class_names),
        "calibration": panel("figures.calibration", *map(np.asarray, bins)),
    }
