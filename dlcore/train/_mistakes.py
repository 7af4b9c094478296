"""What a classifier gets wrong on the test split, as panels: confusion, mistakes, calibration (lecture 11.6)."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dlcore.data import Data
from dlcore.evaluation import calibration, confusion_matrix
from dlcore.report.panel import Panel, panel
from dlcore.train._builders import map_split
from dlcore.types import Batch


def mistakes(logits: Callable[[Any], jax.Array], data: Data, most: int = 24) -> dict[str, Panel]:
    """Confusion matrix, the most confident mistakes, and calibration of `logits(images)`, grey levels in."""

    def probabilities_of(batch: Batch) -> tuple[jax.Array, jax.Array]:
        return jax.nn.softmax(logits(batch["image"])), batch["label"]

    probabilities, labels = map_split(probabilities_of, data.test, 500)
    predicted, confidence = probabilities.argmax(-1), probabilities.max(-1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong])][:most]
    images = data.test.read(worst)["image"] / (data.spec.levels - 1)
    # Compiled as a whole: operation by operation each would be a program of its own.
    counted = jax.jit(lambda p, k, y: (calibration(p, y), confusion_matrix(k, y, data.spec.classes)))
    names, (bins, confusion) = data.spec.class_names, counted(probabilities, predicted, labels)
    return {
        "confusion": panel("figures.confusion", np.asarray(confusion), names),
        "mistakes": panel("figures.mistakes", images, labels[worst], predicted[worst], confidence[worst], names),
        "calibration": panel("figures.calibration", *map(np.asarray, bins)),
    }
