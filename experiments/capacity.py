"""Capacity: errors against the size of a model, and what to choose (lecture 1.4–1.8, 8.7).

./launch/local.sh train --experiment=capacity --data=digits

Trained are networks of one hidden layer of every width, at once, on the data. Beside them stand polynomials of every
degree on a regression problem whose truth is known, the degree that k-fold cross-validation chooses, and networks of
growing width on a continuous function.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import evaluation, studies
from dlcore.data import Data, DataSpec, Split
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.networks import MLP
from dlcore.optim import OptimizerConfig
from dlcore.report import regression
from dlcore.report.panel import panel
from dlcore.train import (
    Findings,
    LoopConfig,
    Result,
    Results,
    SideBySide,
    Study,
    System,
    apart,
    budget,
    map_split,
    side_by_side,
    standardized,
)
from dlcore.types import Batch, Key, Model

PRESETS = ("smoke", "default", "full")


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    """Hidden widths of the networks."""
    activation: str = "tanh"
    degree: int = 15
    """Highest degree of the polynomials."""
    examples: int = 40
    """Training points of the regression problem."""
    noise: float = 0.4
    """Standard deviation of its noise."""
    folds: int = 5
    function_widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Hidden widths of the networks that approximate a function."""
    function_steps: int = 4000
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    small = max(spec.shape) <= 16
    optimizer = OptimizerConfig(learning_rate=1e-2, schedule="cosine")
    steps, every = (1_900, 190) if small else (8_590, 859)
    train = budget(spec.sizes[0], batch_size=64, steps=steps, every=every)
    base = Config(optimizer=optimizer, train=train)
    if name == "smoke":
        short = train.scaled(1 / 5, every=1 / 2)
        return replace(base, widths=(1, 2, 4, 8, 16, 32), function_steps=500, train=short)
    if name == "full":
        return replace(base, widths=(*base.widths, 256, 512), function_steps=20_000, train=train.scaled(3))
    return base


def make_networks(config: Config, spec: DataSpec) -> SideBySide:
    """The networks side by side: [b, ...] to logits [b, widths, classes]."""
    spec.need("capacity", labels=True)
    network = functools.partial(MLP, outputs=spec.classes, activation=config.activation)
    return side_by_side({f"width_{width}": network((width,)) for width in config.widths})


def build(config: Config, spec: DataSpec) -> System:
    """Compose networks, their summed loss, optimiser, errors by width and figures."""
    networks = make_networks(config, spec)
    objective = supervised(networks.model, networks.summed(softmax_cross_entropy), inputs="x")

    def summary(sums: Mapping[str, Any]) -> dict[str, float]:
        found = networks.summary(sums)
        return found | {f"error_{name}": 1 - found.pop(f"accuracy_{name}") for name in networks.names}

    fit = networks.fit(objective, softmax_cross_entropy, config, spec, summarize=summary)

    def look(key: Key, data: Data, results: Results) -> Findings:
        train, test = (errors(networks.model, spec, results["networks"], split) for split in (data.train, data.test))
        return Findings({"train": train, "test": test}, {"widths": draw_widths(config, spec, train, test)})

    return System(
        {
            "networks": fit,
            "polynomials": apart(
                lambda key: polynomials(config),
                studies.polynomial_metrics,
                functools.partial(draw_polynomials, config),
            ),
            "functions": apart(
                lambda key: approximations(config),
                functools.partial(function_metrics, config),
                functools.partial(draw_approximations, config),
            ),
            "capacity": Study(look, uses=("networks",), beside=True),
        },
        headline=("error_width_*", "polynomial_best_degree"),
        picture=("capacity/widths",),
    )


def polynomials(config: Config) -> dict[str, Any]:
    """The study of polynomials on the problem that `config` describes."""
    options = {"examples": config.examples, "noise": config.noise, "degree": config.degree, "folds": config.folds}
    return studies.nested_polynomials(**options)


def draw_polynomials(config: Config, found: Mapping[str, Any]) -> dict[str, Any]:
    """Errors against the degree, and some of the fits."""
    return regression.capacity(found, examples=config.examples, noise=config.noise, folds=config.folds)


def approximations(config: Config) -> dict[str, Any]:
    """Networks of several widths fitted to a continuous function, and their distances from it."""
    key, widths = jax.random.key(0), config.function_widths
    found = studies.approximate(key, studies.bumps, widths, steps=config.function_steps)
    x = jnp.linspace(-1, 1, found.values.shape[1])
    kept = {"values": found.values, "rms": found.rms, "largest": found.largest, "x": x, "truth": studies.bumps(x)}
    return jax.tree.map(np.asarray, kept)


def function_metrics(config: Config, found: Mapping[str, Any]) -> dict[str, float]:
    """Root-mean-square distances from the function by width."""
    return {f"function_rms_width_{width}": found["rms"][i] for i, width in enumerate(config.function_widths)}


def draw_approximations(config: Config, found: Mapping[str, Any]) -> dict[str, Any]:
    """The function and its approximations."""
    curves = [found[name] for name in ("values", "rms", "largest")]
    shown = panel("studies.approximations", found["x"], found["truth"], config.function_widths, *curves)
    return {"approximation": shown}


def draw_widths(config: Config, spec: DataSpec, train: np.ndarray, test: np.ndarray) -> Any:
    """Errors of the trained networks against their width."""
    return panel(
        "studies.capacity_curve",
        config.widths,
        train,
        test,
        xlabel="hidden units",
        ylabel="error rate",
        logarithmic=True,
        title=f"networks of one hidden layer on {spec.name}",
    )


def errors(model: Model, spec: DataSpec, trained: Result, split: Split) -> np.ndarray:
    """Error rate [widths] over a split."""

    def wrong(batch: Batch) -> jax.Array:
        x = standardized(spec)(batch, key=None, train=False)["x"]
        logits = model.apply(trained.params, trained.state, x)[0]
        return 1 - evaluation.correct(logits, jnp.broadcast_to(batch["label"][:, None], logits.shape[:-1]))

    return map_split(wrong, split, 5000).mean(0)
