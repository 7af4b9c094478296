"""Bagging and dropout: one network, the average of many, and many in one (lecture 12).

./launch/local.sh train --experiment=bagging --data=digits
./launch/local.sh train --experiment=bagging --data=fashion_mnist

Trained at once are a single network on all training images, `members` networks of the same kind, and one with dropout.
The members see bootstrap samples or, with many images, all of them: there a sample that lacks a third costs each member
more than the average gives back (RESULTS.md). Compared are the single network, the average of the members'
probabilities, the network with dropout at its expected weights, and the average over `masks` of its masks (Monte-Carlo
dropout).
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import evaluation
from dlcore.data import Data, DataSpec, row_keys
from dlcore.losses import softmax_cross_entropy
from dlcore.networks import MLP
from dlcore.nn import compose
from dlcore.optim import OptimizerConfig
from dlcore.report.panel import panel
from dlcore.train import (
    LoopConfig,
    Result,
    System,
    average_probabilities,
    bootstrap_counts,
    budget,
    ensemble,
    fit_model,
    gallery,
    map_split,
    standardized,
)
from dlcore.types import Aux, Batch, Key, Mean, Model, Params, State

PRESETS = ("smoke", "default", "full")
METHODS = ("single", "bag", "dropout", "mc_dropout")


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    widths: tuple[int, ...] = (128,)
    """Hidden widths of every network."""
    activation: str = "relu"
    members: int = 5
    """Networks in the bag."""
    bootstrap: bool = True
    """Whether members see bootstrap samples; otherwise all images, and they differ by their start alone."""
    dropout: float = 0.3
    masks: int = 20
    """Masks of Monte-Carlo dropout."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    small = max(spec.shape) <= 16
    # At a constant rate the members stop at different places, which is what their average gains by.
    optimizer = OptimizerConfig(learning_rate=1e-3, schedule="cosine" if small else "constant")
    steps, every = (3_800, 380) if small else (10_308, 2_577)
    train = budget(spec.sizes[0], batch_size=64, steps=steps, every=every)
    base = Config(widths=(64,) if small else (256, 128), bootstrap=small, optimizer=optimizer, train=train)
    if name == "smoke":
        short = train.scaled(1 / 10, every=1 / 2) if small else train.scaled(1 / 30, every=1 / 15)
        return replace(base, masks=5, train=short)
    if name == "full":
        return replace(base, members=20, masks=100, train=train.scaled(2))
    return base


def make_models(config: Config, spec: DataSpec) -> dict[str, Model]:
    """The single network, the members of the bag, and the network with dropout."""
    spec.need("bagging", labels=True)
    if config.members < 2:
        raise ValueError(f"members must be at least 2, got {config.members}")
    if not config.dropout > 0:
        raise ValueError(f"dropout must be above 0 to be compared, got {config.dropout}")

    def network(dropout: float = 0.0) -> Model:
        return MLP(config.widths, spec.classes, activation=config.activation, dropout=dropout)

    return {"single": network(), "bag": ensemble(network(), config.members), "dropout": network(config.dropout)}


def make_predict(config: Config, model: Model, dropout: Model) -> Callable[[Params, Batch], dict[str, jax.Array]]:
    """Log-probabilities [..., b, classes] by method, and the members' own as "members"."""

    def masked(params: Params, x: jax.Array, keys: Key) -> jax.Array:
        one = lambda key, x: dropout.apply(params, {}, x[None], train=True, key=key)[0][0]  # noqa: E731
        return jax.vmap(one)(keys, x)

    def predict(params: Params, batch: Batch) -> dict[str, jax.Array]:
        single, bag, dropped = model.apply(params, {}, batch["x"])[0]
        keys = [jax.random.fold_in(jax.random.key(1), i) for i in range(config.masks)]
        drawn = jnp.stack([masked(params["dropout"], batch["x"], row_keys(key, batch["row"])) for key in keys])
        found = {"single": single, "dropout": dropped, "members": bag}
        found = {name: jax.nn.log_softmax(logits) for name, logits in found.items()}
        return found | {"bag": average_probabilities(bag), "mc_dropout": average_probabilities(drawn)}

    return predict


def build(config: Config, spec: DataSpec) -> System:
    """Compose networks, their losses, optimiser, what is compared, and figures."""
    models = make_models(config, spec)
    model, counts = compose(lambda call, x: tuple(call(name, x) for name in models), **models), None
    predict = make_predict(config, model, models["dropout"])
    if config.bootstrap:
        counts = np.asarray(bootstrap_counts(jax.random.key(0), spec.sizes[0], config.members)).astype(np.uint8)

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: jax.Array | None = None
    ) -> tuple[jax.Array, Aux]:
        single, bag, dropped = model.apply(params, state, batch["x"], train=train, key=key)[0]
        labels = batch["label"]
        nats = softmax_cross_entropy(bag, jnp.broadcast_to(labels, bag.shape[:2]))
        if counts is not None:
            nats = nats * jnp.asarray(counts)[:, batch["row"]]
        # A sum, so that every network has the gradient that it would have alone.
        loss = (nats.sum(0) + softmax_cross_entropy(single, labels) + softmax_cross_entropy(dropped, labels)).mean()
        return loss, Aux(state, {"loss": Mean(loss, jnp.float32(1))})

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Mapping[str, Any]:
        found, labels, where = predict(params, batch), batch["label"], batch["where"]
        errors = jnp.exp(found["members"]) - jax.nn.one_hot(labels, spec.classes)
        sums = {name: scores(found[name], labels, where) for name in METHODS}
        member = evaluation.correct(found["members"], jnp.broadcast_to(labels, found["members"].shape[:2])).mean(0)
        return {
            **sums,
            "member": Mean.of(member, where),
            "v": Mean.of(jnp.square(errors).sum(-1).mean(0), where),
            "average": Mean.of(jnp.square(errors.mean(0)).sum(-1), where),
        }

    fit = fit_model(
        model,
        objective,
        config,
        spec,
        inputs="x",
        evaluate=evaluate,
        summarize=lambda sums: summary(sums, config.members),
        monitor=("nll_nats_bag", "min"),
    )
    stages = {"networks": fit, "methods": gallery("networks", functools.partial(draw, predict))}
    return System(stages, headline=("accuracy_*",), picture=("methods/methods",))


def scores(log_p: jax.Array, labels: jax.Array, where: jax.Array) -> dict[str, Any]:
    """Sums of what one method's log-probabilities are judged by."""
    return {
        "accuracy": Mean.of(evaluation.correct(log_p, labels), where),
        "nll_nats": Mean.of(softmax_cross_entropy(log_p, labels), where),
        "ece": evaluation.calibration(jnp.exp(log_p), labels, where=where),
    }


def summary(sums: Mapping[str, Any], members: int) -> dict[str, float]:
    """Numbers by method; v, c and the squared error of the average, Brier scores of the members (lecture 12.3)."""
    found: dict[str, float] = {}
    for name in METHODS:
        part = sums[name]
        found |= {f"{k}_{name}": float(part[k].value()) for k in ("accuracy", "nll_nats")}
        found[f"ece_{name}"] = float(evaluation.expected_calibration_error(part["ece"]))
    v, average = (float(sums[name].value()) for name in ("v", "average"))
    c = (members * average - v) / (members - 1)
    return found | {"accuracy_member": float(sums["member"].value()), "v": v, "c": c, "squared_error_bag": average}


def draw(predict: Any, trained: Result, data: Data) -> dict[str, Any]:
    """Methods side by side, and the error of the average of the first j members, on the test split."""

    def log_probabilities(batch: Batch) -> tuple[dict[str, jax.Array], jax.Array]:
        found = predict(trained.params, standardized(data.spec)(batch, key=None, train=False))
        return {name: jnp.moveaxis(values, -2, 0) for name, values in found.items()}, batch["label"]

    log_p, labels = map_split(log_probabilities, data.test)
    log_p = {name: np.moveaxis(values, 0, -2) for name, values in log_p.items()}
    found = {
        name: {
            "error": 1 - float(evaluation.correct(jnp.asarray(log_p[name]), jnp.asarray(labels)).mean()),
            "ece": float(evaluation.expected_calibration_error(evaluation.calibration(jnp.exp(log_p[name]), labels))),
        }
        for name in METHODS
    }
    errors = np.exp(log_p["members"]) - np.eye(data.spec.classes)[labels]
    return {"methods": panel("ensembles.methods", found, len(labels)), "average": panel("ensembles.average", errors)}
