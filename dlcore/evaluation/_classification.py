"""What a classifier's probabilities add up to over batches, and the metrics of the sums (lecture 1.1–1.3)."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.evaluation import _metrics as metrics
from dlcore.operands import Discrete, has_shape
from dlcore.types import Mean


def classification_sums(
    log_probabilities: Float[Array, "b c"], labels: Discrete[Array, " b"], where: Discrete[Array, " b"]
) -> dict[str, Any]:
    """`nll_nats` (−log p(y|x)), `accuracy` and `calibration` over the rows that `where` marks; they add up.

    Raises `ValueError` for shapes that do not fit, and for labels that are no class, where they are known.
    """
    has_shape("classification_sums", "labels", labels, log_probabilities.shape[:1], "one per row")
    own = jnp.take_along_axis(log_probabilities, labels[:, None].astype(jnp.int32), axis=1)[:, 0]
    return {
        "nll_nats": Mean.of(-own, where),
        "accuracy": Mean.of(metrics.correct(log_probabilities, labels, where=where), where),
        "calibration": metrics.calibration(jnp.exp(log_probabilities), labels, where=where),
    }


def classification_summary(found: Mapping[str, Any]) -> dict[str, float]:
    """`accuracy`, `nll_nats` and `ece` (expected calibration error) of the added-up sums."""
    ece = float(metrics.expected_calibration_error(found["calibration"]))
    return {"accuracy": float(found["accuracy"].value()), "nll_nats": float(found["nll_nats"].value()), "ece": ece}
