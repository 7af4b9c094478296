"""Bias and variance: the same model trained on many training sets (lecture 3.1–3.5).

./launch/local.sh train --experiment=bias_variance --data=digits

Trained are replicas of a network of one hidden layer, of several widths, all at once: each sees its own random part of
the training images. The squared error of their probabilities is then bias² + variance over the replicas, to float
accuracy, with the noise of the labels in the bias². Beside them stand polynomials and ridge regression on a problem
whose truth is known, and the consistency of estimators.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import evaluation, studies
from dlcore.data import Data, DataSpec, row_keys
from dlcore.losses import softmax_cross_entropy
from dlcore.networks import MLP
from dlcore.nn import compose
from dlcore.optim import OptimizerConfig
from dlcore.report.panel import panel
from dlcore.report.regression import bias_and_variance
from dlcore.train import LoopConfig, Result, System, apart, budget, ensemble, fit_model, gallery
from dlcore.types import Aux, Batch, Key, Mean, Model, Params, State

PRESETS = ("smoke", "default", "full")
SIZES = (4, 8, 16, 32, 64, 128, 256, 512)
"""Of the samples from which a variance is estimated."""
EPSILON = 0.25


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    widths: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    """Hidden widths of the networks."""
    replicas: int = 10
    """Networks per width."""
    fraction: float = 0.1
    """Probability of a training image to belong to a replica's training set."""
    activation: str = "tanh"
    sets: int = 2000
    """Training sets of the regression problem."""
    examples: int = 30
    """Points in each."""
    noise: float = 0.4
    """Standard deviation of its noise."""
    degree: int = 12
    """Highest degree of the polynomials."""
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
        return replace(base, widths=(2, 8, 32), replicas=5, sets=300, train=short)
    if name == "full":
        return replace(base, replicas=40, sets=20_000, train=train.scaled(2))
    return base


def make_model(config: Config, spec: DataSpec) -> Model:
    """All networks side by side: [b, ...] to logits [b, widths, replicas, classes]."""
    spec.need("bias_variance", labels=True)
    network = functools.partial(MLP, outputs=spec.classes, activation=config.activation)
    parts = {f"width_{width}": ensemble(network((width,)), config.replicas) for width in config.widths}
    return compose(lambda call, x: jnp.moveaxis(jnp.stack([call(name, x) for name in parts]), 2, 0), **parts)


def memberships(rows: jax.Array, replicas: int, fraction: float) -> jax.Array:
    """Which replicas the training examples of these numbers belong to, bool [b, replicas]: the same in every epoch."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, fraction, (replicas,)))(row_keys(jax.random.key(0), rows))


def build(config: Config, spec: DataSpec) -> System:
    """Compose networks, their losses on their own examples, optimiser, the decomposition and figures."""
    model, names = make_model(config, spec), [f"width_{width}" for width in config.widths]

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: jax.Array | None = None
    ) -> tuple[jax.Array, Aux]:
        logits = model.apply(params, state, batch["x"])[0]
        own = memberships(batch["row"], config.replicas, config.fraction)[:, None]
        labels = jnp.broadcast_to(batch["label"][:, None, None], logits.shape[:3])
        nats = softmax_cross_entropy(logits, labels)
        # A sum, so that every network has the gradient that it would have alone.
        loss = jnp.where(own, nats, 0.0).sum() / (config.fraction * len(nats))
        return loss, Aux(state, {"loss": Mean(loss, jnp.float32(1))})

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Mapping[str, Any]:
        p = jax.nn.softmax(model.apply(params, state, batch["x"])[0])
        target = jax.nn.one_hot(batch["label"], spec.classes)
        found = studies.decompose(jnp.moveaxis(p, 2, 0), jnp.broadcast_to(target[:, None], (*p.shape[:2], p.shape[3])))
        sums = {part: values.sum(-1) for part, values in found.items()}
        right = evaluation.correct(p, jnp.broadcast_to(batch["label"][:, None, None], p.shape[:-1])).mean(-1)
        return {
            name: {k: Mean.of(v[:, i], batch["where"]) for k, v in {**sums, "accuracy": right}.items()}
            for i, name in enumerate(names)
        }

    def summary(sums: Mapping[str, Any]) -> dict[str, float]:
        found = {f"{k}_{name}": float(v.value()) for name, parts in sums.items() for k, v in parts.items()}
        return {"brier": float(np.mean([found[f"error_{name}"] for name in names])), **found}

    fit = fit_model(
        model, objective, config, spec, inputs="x", evaluate=evaluate, summarize=summary, monitor=("brier", "min")
    )
    return System(
        {
            "networks": fit,
            "regression": apart(
                lambda key: regression(config),
                studies.regression_metrics,
                functools.partial(draw_regression, config),
            ),
            "estimators": apart(
                lambda key: {"beyond": studies.variance_estimators(key, SIZES, EPSILON)}, panels=draw_estimators
            ),
            "decomposition": gallery("networks", functools.partial(draw_networks, config)),
        },
        headline=("bias_squared_*", "variance_*"),
        picture=("decomposition/networks",),
    )


def regression(config: Config) -> dict[str, Any]:
    """The study of polynomials on the problem that `config` describes."""
    options = {"sets": config.sets, "examples": config.examples, "noise": config.noise, "degree": config.degree}
    return studies.repeated_regression(jax.random.key(0), **options, penalties=np.logspace(-3, 2, 11))


def draw_networks(config: Config, trained: Result, data: Data) -> dict[str, Any]:
    """Bias² and variance of the trained networks on the test split, from their metrics."""
    names = [f"width_{width}" for width in config.widths]
    curves = {part: np.array([trained.metrics[f"{part}_{name}"] for name in names]) for part in studies.PARTS}
    shown = panel(
        "studies.bias_variance",
        config.widths,
        **curves,
        xlabel="hidden units",
        ylabel="squared error of the probabilities",
        base=2,
        title=f"{config.replicas} networks per width, each on {config.fraction:.0%} of {data.spec.name}",
    )
    return {"networks": shown}


def draw_regression(config: Config, found: Mapping[str, Any]) -> dict[str, Any]:
    """Polynomials and ridge regression over repeated training sets."""
    options = {"sets": config.sets, "examples": config.examples, "noise": config.noise}
    return bias_and_variance(found, studies.PARTS, **options)


def draw_estimators(found: Mapping[str, Any]) -> dict[str, Any]:
    """Three estimators of a variance, against the size of the sample."""
    curves = dict(zip(studies.ESTIMATORS, found["beyond"].T, strict=True))
    title = "estimators of the variance of a normal distribution, θ = 1"
    return {"consistency": panel("studies.consistency", SIZES, curves, EPSILON, title=title)}
