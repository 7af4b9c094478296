"""What the fits of most systems share: one optimiser on one objective, standardised inputs, sums of a classifier, a
function over a split."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.data.preprocess import scale, standardize
from dlcore.data.source import DataSpec, Split
from dlcore.evaluation import metrics
from dlcore.optim.build import OptimizerConfig, build, learning_rate
from dlcore.train.config import LoopConfig
from dlcore.train.step import Preprocess
from dlcore.train.system import Fit
from dlcore.train.updates import gradient_update, with_average
from dlcore.types import Batch, Key, Mean, Objective


def fit_by_gradient(
    objective: Objective,
    loop: LoopConfig,
    optimizer: OptimizerConfig,
    examples: int,
    *,
    ema: float = 0.0,
    microbatches: int = 1,
    **parts: Any,
) -> Fit:
    """A fit that descends one objective with one optimiser, over `examples` training examples.

    It keeps a moving average with decay `ema` unless that is 0; `parts` are the other fields of `Fit`.
    """
    total = loop.total_steps(examples)
    gradient = gradient_update(objective, build(optimizer, total), microbatches=microbatches)
    rates = {"learning_rate": learning_rate(optimizer, total)}
    return Fit(loop=loop, update=with_average(gradient, ema), **{"learning_rates": rates, **parts})


def standardized(spec: DataSpec, name: str = "x") -> Preprocess:
    """Points, or pixels in [0, 1], less mean and over standard deviation of the training split, under `name`."""

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        x = batch["point"] if len(spec.shape) == 1 else scale(batch["image"], spec.levels)
        return {**batch, name: standardize(x, spec.mean, spec.std)}

    return preprocess


def classification_sums(log_probabilities: Any, labels: Any, where: Any) -> dict[str, Any]:
    """What a classifier's log p(y|x) [b, classes] adds up to over the rows that `where` marks."""
    own = jnp.take_along_axis(log_probabilities, labels[:, None].astype(jnp.int32), axis=1)[:, 0]
    return {
        "nll_nats": Mean.of(-own, where),
        "accuracy": Mean.of(metrics.correct(log_probabilities, labels), where),
        "calibration": metrics.calibration(jnp.exp(log_probabilities), labels, where=where),
    }


def classification_summary(sums: Mapping[str, Any]) -> dict[str, float]:
    """`accuracy`, `nll_nats` of p(y|x) and `ece` from the sums."""
    ece = float(metrics.expected_calibration_error(sums["calibration"]))
    return {"accuracy": float(sums["accuracy"].value()), "nll_nats": float(sums["nll_nats"].value()), "ece": ece}


def map_split(function: Callable[[Mapping[str, Any]], Any], split: Split, most: int = 1000) -> Any:
    """`function(rows)` over a whole split, compiled, at most so many rows at a time; leaves joined on their first axis.

    `rows` are raw, with their numbers as `row`.
    """
    compiled = jax.jit(function)
    chunks = np.array_split(np.arange(split.size, dtype=np.int32), -(-split.size // most))
    found = [jax.device_get(compiled({**split.read(chunk), "row": chunk})) for chunk in chunks]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)
