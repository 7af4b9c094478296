"""What an experiment builds: named stages in order, each a fit or a study, and the runs of others that they need."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from dlcore.report.panel import Panel
from dlcore.train._config import LoopConfig
from dlcore.train._step import Preprocess
from dlcore.types import Batch, Key, Params, State, Update

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Result(NamedTuple):
    """What a stage, or a run that was needed, has come to: a fit has params and state, a study arrays."""

    metrics: Mapping[str, float] = NOTHING
    params: Params = NOTHING
    state: State = NOTHING
    arrays: Mapping[str, Any] = NOTHING
    functions: Mapping[str, Callable[..., Any]] = NOTHING
    """Of a needed run: the functions of its system."""


Results = Mapping[str, Result]
"""By name: those of the stages and needs that a stage `uses`."""


class Fit(NamedTuple):
    """A stage that trains: everything that the loop needs, and nothing about devices, files or flags."""

    loop: LoopConfig
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
    summarize: Callable[[Mapping[str, Any]], Mapping[str, float]]
    """Added-up sums to metrics by name, on the host; it takes the sums of `evaluate` and of `evaluate_test`."""
    monitor: tuple[str, str]
    """Metric that tells the best parameters on the validation split, and "min" or "max"."""
    describe: Callable[[], str] = str
    """The summary of its networks that opens the stage."""
    learning_rates: Mapping[str, Callable[[Any], Any]] = NOTHING
    """Schedules to log, by name."""
    evaluate_test: Callable[[Params, State, Batch, Key], Mapping[str, Any]] | None = None
    """The full protocol for the final test, where `evaluate` is a quicker one for validation."""
    ruler: Mapping[str, str] = NOTHING
    """What must be known to compare a likelihood, see `likelihood`; stands among the metrics."""
    sample: Callable[..., Any] | None = None
    """`(params, state, key, num, **options) -> images [num, h, w, c] in [0, 1]` (or points [num, d]), for a generative
    model; without options as the configuration says."""
    sample_options: tuple[str, ...] = ()
    """The options that `sample` takes, some of: label, temperature, steps, sampler, eta, guidance."""
    uses: tuple[str, ...] = ()
    """Earlier stages and needs whose results `start` and `data` are given."""
    start: Callable[[Params, State, Results], tuple[Params, State]] | None = None
    """Where to begin, if not at what `init` gives."""
    data: Callable[[Any, Results], Any] | None = None
    """`(data, results) -> data` to train and evaluate on, if not the run's own."""


def likelihood(kind: str, of: str = "x") -> dict[str, str]:
    """The ruler of `bits_per_dim` and `nll_nats`: "exact" or "upper bound"; of "x", or of "x given label", whose −log p
    is up to log(classes) nats smaller."""
    return {"bits_per_dim_kind": kind, "bits_per_dim_of": of}


class Findings(NamedTuple):
    """What a study has found: arrays (a nested dict of arrays and numbers), and figures as panels."""

    arrays: Mapping[str, Any] = NOTHING
    panels: Mapping[str, Panel] = NOTHING


class Study(NamedTuple):
    """A stage that looks: `compute(key, data, results) -> Findings`, computed once and kept.

    With `cells`, `compute(key, data, results, cell)` does one part at a time, each of which is kept: a kill repeats one
    at most. Arrays are then {cell: arrays}, and panels are called CELL_TITLE. Clock readings belong below `timing`,
    which no digest includes.
    """

    compute: Callable[..., Findings]
    metrics: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda arrays: {}
    """From the arrays, all cells together."""
    panels: Callable[[Mapping[str, Any]], Mapping[str, Panel]] = lambda arrays: {}
    """Figures from the arrays of all cells, beside those that `compute` returns."""
    uses: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    beside: bool = False
    """Whether it only stands beside a result: computed when the summary is written, and free to fail."""


def gallery(stage: str, draw: Callable[[Result, Any], Mapping[str, Panel]]) -> Study:
    """A study beside the result: the figures `draw(trained, data)` of what an earlier stage has trained."""
    return Study(lambda key, data, results: Findings(panels=draw(results[stage], data)), uses=(stage,), beside=True)


def apart(
    compute: Callable[[Key], Mapping[str, Any]] = lambda key: {},
    metrics: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda arrays: {},
    panels: Callable[[Mapping[str, Any]], Mapping[str, Panel]] = lambda arrays: {},
) -> Study:
    """A study beside the result that needs neither the data nor what was trained.

    `compute(key)` gives its arrays, none where there is only something to draw.
    """
    return Study(lambda key, data, results: Findings(compute(key)), metrics, panels, beside=True)


class RunSpec(NamedTuple):
    """A run of another system on the same data that stages need; trained once, and shared."""

    experiment: str
    preset: str = "default"
    seed: int = 0


class System(NamedTuple):
    """What an experiment's `build(config, spec)` returns: stages in order, each seeing the results that it `uses`."""

    stages: Mapping[str, Fit | Study]
    needs: Mapping[str, RunSpec] = NOTHING
    functions: Mapping[str, Callable[..., Any]] = NOTHING
    """What a trained system is used for, `f(params, state, *inputs)` of arrays by name: "predict", "features", …"""
    headline: tuple[str, ...] = ()
    """The metrics that a run is judged by, the first most: `test/NAME` in the summary, or patterns ("accuracy_*")."""
    picture: tuple[str, ...] = ()
    """Figures as STAGE/TITLE, of which the report begins with the first that there is."""


def check(system: System) -> System:
    """The system; raises `ValueError` for one whose stages do not fit together."""
    if not system.stages:
        raise ValueError("a system needs at least one stage")
    known: set[str] = set(system.needs)
    for name, stage in system.stages.items():
        if not name.isidentifier() or name in known or name in RESERVED:
            raise ValueError(f"a stage may not be called {name!r}; use an identifier that no other stage or need has")
        if missing := [used for used in stage.uses if used not in known]:
            there = ", ".join(sorted(known)) or "none"
            raise ValueError(f"stage {name!r} uses {missing[0]!r}, but before it there are {there}")
        if not beside(stage):
            known.add(name)
    return system


def beside(stage: Fit | Study) -> bool:
    """Whether a stage only stands beside the result of a run."""
    return isinstance(stage, Study) and stage.beside


def compiled(system: System) -> dict[str, Callable[..., Any]]:
    """The functions of a system, each compiled for the shapes that it is called with."""
    return {name: jax.jit(function) for name, function in system.functions.items()}


RESERVED = ("checkpoints", "samples", "figures", "turn", "shared")


def main_fit(system: System) -> tuple[str, Fit]:
    """The last fit of a system: what is sampled, evaluated and exported. Raises `ValueError` when there is none."""
    for name, stage in reversed(system.stages.items()):
        if isinstance(stage, Fit):
            return name, stage
    raise ValueError("this system has no fit: there is no model to restore")
