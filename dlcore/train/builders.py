"""What the fits of most systems share: one optimiser on one objective, standardised inputs, a function over a split."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from dlcore.data.pipeline import evaluation_batches
from dlcore.data.preprocess import scale, standardize
from dlcore.data.source import DataSpec, Rows, Split
from dlcore.optim.build import OptimizerConfig, build, learning_rate
from dlcore.train.config import LoopConfig
from dlcore.train.step import Preprocess
from dlcore.train.system import Fit
from dlcore.train.updates import gradient_update, with_average
from dlcore.types import Batch, Key, Objective


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


def joined(*splits: Split) -> Split:
    """The rows of several splits, one after the other."""
    ends = np.cumsum([split.size for split in splits])

    def read(rows: np.ndarray) -> Rows:
        of = np.searchsorted(ends, rows, side="right")
        parts = [
            (np.flatnonzero(of == i), split, end - split.size)
            for i, (split, end) in enumerate(zip(splits, ends, strict=True))
        ]
        found = [(places, split.read(rows[places] - start)) for places, split, start in parts if len(places)]
        back = np.argsort(np.concatenate([places for places, _ in found]))
        return {name: np.concatenate([part[name] for _, part in found])[back] for name in found[0][1]}

    return Split(int(ends[-1]), read)


def pixel_rows(split: Split, levels: int, most: int = 2000) -> Iterator[np.ndarray]:
    """Images of a split as rows of pixels in [0, 1], float64, at most so many rows at a time."""
    for batch in evaluation_batches(split, batch_size=min(split.size, most)):
        images = batch["image"][batch["where"]]
        yield images.reshape(len(images), -1) / np.float64(levels - 1)


def map_split(function: Callable[[Mapping[str, Any]], Any], split: Split, most: int = 1000) -> Any:
    """`function(rows)` over a whole split, compiled, at most so many rows at a time; leaves joined on their first axis.

    `rows` are raw, with their numbers as `row`.
    """
    compiled = jax.jit(function)
    chunks = np.array_split(np.arange(split.size, dtype=np.int32), -(-split.size // most))
    found = [jax.device_get(compiled({**split.read(chunk), "row": chunk})) for chunk in chunks]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)
