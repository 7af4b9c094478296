"""What a system hands to the training loop: an experiment is a tuple of pure functions."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dlcore.train.step import Preprocess
from dlcore.types import Batch, Key, Params, State, Update


class Experiment(NamedTuple):
    """Everything the loop needs, and nothing about devices, files or flags."""

    init: Callable[[Key, Batch], tuple[Params, State]]
    """`(key, batch)`, the first training batch as `preprocess` gives it: its values serve data-dependent starts."""
    update: Update
    """What a training step does; evaluation sees params and state through its view."""
    preprocess: Preprocess
    """Raw rows to model input: `(batch, *, key, train) -> batch`, inside the compiled step."""
    evaluate: Callable[[Params, State, Batch, Key], Mapping[str, Any]]
    """Sums over a batch (`Mean`s or arrays that add up), over the rows that `where` marks.

    `row` (int32) numbers the rows of the split: what is drawn from the key folded with it does not depend on batches.
    """
    summarize: Callable[[Mapping[str, Any]], dict[str, float]]
    """Added-up sums to metrics by name, on the host; it takes the sums of `evaluate` and of `evaluate_test`."""
    monitor: tuple[str, str]
    """Metric that tells the best parameters on the validation split, and "min" or "max"."""
    learning_rates: Mapping[str, Callable[[Any], Any]]
    """Schedules to log, by name."""
    describe: Callable[[], str]
    """The model summary that opens a run."""
    figures: Callable[[Params, State, Any], Mapping[str, Any]]
    """`(params, state, data) -> {name: matplotlib figure}`, on the host after training."""
    evaluate_test: Callable[[Params, State, Batch, Key], Mapping[str, Any]] | None = None
    """The full protocol for the final test, where `evaluate` is a quicker one for validation."""
    quality_samples: int = 0
    """How many samples are compared with as many real images after training; 0 for none."""
    likelihood_kind: str | None = None
    """What `bits_per_dim` and `nll_nats` of a density are: "exact" or "upper bound"."""
    likelihood_of: str = "x"
    """Whose they are: "x", or "x given label", whose −log p is up to log(classes) nats smaller."""
    anchors: Callable[[Any], Mapping[str, float]] | None = None
    """`(data) -> metrics` of the test split that stand beside the model's own and need no model."""
    sample: Callable[..., Any] | None = None
    """`(params, state, key, num, **options) -> images [num, h, w, c] in [0, 1]` (or points [num, d]), for a generative
    model; without options as the configuration says."""
    sample_options: tuple[str, ...] = ()
    """The options that `sample` takes, some of: label, temperature, steps, sampler, eta, guidance."""

    def ruler(self) -> dict[str, str]:
        """What must be known to compare `bits_per_dim` and `nll_nats` of two models; nothing where there are none."""
        if self.likelihood_kind is None:
            return {}
        return {"bits_per_dim_kind": self.likelihood_kind, "bits_per_dim_of": self.likelihood_of}
