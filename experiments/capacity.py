"""Capacity: errors against the size of a model, and what to choose (lecture 1.4–1.8, 8.7).

./launch/local.sh train --experiment=capacity --data=digits

Trained are networks of one hidden layer of every width, at once, on the data. Beside them stand polynomials of every
degree on a regression problem whose truth is known, the degree that k-fold cross-validation chooses, and networks of
growing width on a continuous function.
"""

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
from dlcore.nn import compose
from dlcore.optim import OptimizerConfig
from dlcore.report import regression
from dlcore.report.panel import panel
from dlcore.train import (
    Findings,
    LoopConfig,
    Result,
    Results,
    Study,
    System,
    budget,
    fit_model,
    map_split,
    standardized,
)
from dlcore.types import Batch, Key, Mean, Model, Params, State

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


def make_model(config: Config, spec: DataSpec) -> Model:
    """The networks side by side: [b, ...] to logits [b, widths, classes]."""
    if not spec.classes:
        raise ValueError(f"capacity needs labels, and {spec.name} has none; use digits, for instance")
    parts = {f"width_{width}": MLP((width,), spec.classes, activation=config.activation) for width in config.widths}
    return compose(lambda call, x: jnp.stack([call(name, x) for name in parts], axis=1), **parts)


def build(config: Config, spec: DataSpec) -> System:
    """Compose networks, their summed loss, optimiser, errors by width and figures."""
    model, preprocess = make_model(config, spec), standardized(spec)

    def losses(logits: Any, labels: Any) -> Any:
        return softmax_cross_entropy(logits, jnp.broadcast_to(labels[:, None], logits.shape[:2]))

    # The sum gives every network the gradient that it would have alone.
    objective = supervised(model, lambda logits, labels: losses(logits, labels).sum(-1), inputs="x")
    names = [f"width_{width}" for width in config.widths]

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Mapping[str, Any]:
        logits, labels, where = model.apply(params, state, batch["x"])[0], batch["label"], batch["where"]
        right = evaluation.correct(logits, jnp.broadcast_to(labels[:, None], logits.shape[:2]))
        nats = losses(logits, labels)
        each = {name: (Mean.of(right[:, i], where), Mean.of(nats[:, i], where)) for i, name in enumerate(names)}
        return {**each, "nll_nats": Mean.of(nats.mean(-1), where)}

    def summary(sums: Mapping[str, Any]) -> dict[str, float]:
        found = {"nll_nats": float(sums["nll_nats"].value())}
        for name in names:
            right, nats = (float(mean.value()) for mean in sums[name])
            found |= {f"error_{name}": 1 - right, f"nll_nats_{name}": nats}
        return found

    fit = fit_model(
        model,
        objective,
        config,
        spec,
        inputs="x",
        preprocess=preprocess,
        evaluate=evaluate,
        summarize=summary,
        monitor=("nll_nats", "min"),
    )

    def look(key: Key, data: Data, results: Results) -> Findings:
        trained = results["networks"]
        train, test = (errors(model, preprocess, trained, split) for split in (data.train, data.test))
        return Findings({"train": train, "test": test}, {"widths": draw_widths(config, spec, train, test)})

    return System(
        {
            "networks": fit,
            "polynomials": Study(
                lambda key, data, results: Findings(polynomials(config)),
                studies.polynomial_metrics,
                lambda arrays: draw_polynomials(config, arrays),
                beside=True,
            ),
            "functions": Study(
                lambda key, data, results: Findings(approximations(config)),
                lambda arrays: function_metrics(config, arrays),
                lambda arrays: draw_approximations(config, arrays),
                beside=True,
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


def errors(model: Model, preprocess: Any, trained: Result, split: Split) -> np.ndarray:
    """Error rate [widths] over a split."""

    def wrong(batch: Batch) -> jax.Array:
        x = preprocess(batch, key=None, train=False)["x"]
        return model.apply(trained.params, trained.state, x)[0].argmax(-1) != batch["label"][:, None]

    return map_split(wrong, split, 5000).mean(0)
