"""What a system hands to the training loop: an experiment is a tuple of pure functions."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from dlcore.train.step import Prepare
from dlcore.types import Batch, Key, Params, State, Update


class Experiment(NamedTuple):
    """Everything the loop needs, and nothing about devices, files or flags."""

    init: Callable[[Key], tuple[Params, State]]
    updates: tuple[Update, ...]
    optimizers: Mapping[str, optax.GradientTransformation]
    """By the name of the branch of params that each serves; `"params"` is the whole."""
    prepare: Prepare
    """Raw rows to model input: `(batch, *, key, train) -> batch`, inside the compiled step."""
    evaluate: Callable[[Params, State, Batch, Key], Mapping[str, Any]]
    """Sums over a batch (`Mean`s or arrays that add up), over the rows that `where` marks."""
    summarize: Callable[[Mapping[str, Any]], dict[str, float]]
    """Added-up sums to metrics by name, on the host."""
    monitor: tuple[str, str]
    """Metric that tells the best parameters on the validation split, and "min" or "max"."""
    learning_rates: Mapping[str, Callable[[Any], Any]]
    """Schedules to log, by name."""
    describe: Callable[[], str]
    """The model summary that opens a run."""
    figures: Callable[[Params, State, Any], Mapping[str, Any]]
    """`(params, state, data) -> {name: matplotlib figure}`, on the host after training."""
    ema: bool = False
    """Whether a moving average is kept; evaluation then uses it."""
    sample: Callable[[Params, State, Key, int], Any] | None = None
    """`(params, state, key, num) -> images [num, h, w, c] in [0, 1]`, for a generative model."""
