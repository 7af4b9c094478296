"""A system of the user's own, quick to train: one dense layer on images or points."""

from dataclasses import dataclass, field

import jax.numpy as jnp
import optax

from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.networks import MLP
from dlcore.train import Fit, LoopConfig, System, gradient_update
from dlcore.types import Mean

PRESETS = ("default",)


@dataclass(frozen=True)
class Config:
    """Its settings."""

    rate: float = 0.1
    train: LoopConfig = field(default_factory=lambda: LoopConfig(batch_size=8, steps=4, steps_per_dispatch=2))


def preset(name, spec):
    """The only one."""
    return Config()


def build(config, spec):
    """The classifier."""
    model = MLP((), spec.classes)

    def preprocess(rows, *, key, train):
        return {**rows, "image": rows["point"] if "point" in rows else rows["image"].astype(jnp.float32) / spec.levels}

    def evaluate(params, state, batch, key):
        logits, _ = model.apply(params, state, batch["image"])
        correct = logits.argmax(-1) == batch["label"]
        return {"accuracy": Mean.of(correct, batch["where"])}

    fit = Fit(
        loop=config.train,
        init=lambda key, batch: model.init(key, batch["image"]),
        update=gradient_update(supervised(model, softmax_cross_entropy), optax.sgd(config.rate)),
        preprocess=preprocess,
        evaluate=evaluate,
        summarize=lambda sums: {"accuracy": float(sums["accuracy"].value())},
        monitor=("accuracy", "max"),
    )
    return System({"network": fit}, functions={"logits": lambda p, s, x: model.apply(p, s, x)[0]})
