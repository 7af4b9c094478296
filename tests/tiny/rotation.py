"""Regression: by how many degrees is an image turned? The images are turned in the compiled step."""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from dlcore.data import rotate, row_keys, scale
from dlcore.losses import squared_error, supervised
from dlcore.networks import CNN
from dlcore.optim import OptimizerConfig
from dlcore.train import LoopConfig, System, fit_model
from dlcore.types import Mean

PRESETS = ("smoke", "default")


@dataclass(frozen=True)
class Config:
    """Its settings."""

    widths: tuple[int, ...] = (16, 32)
    largest: float = 45.0
    """Images are turned by an angle uniform in ± so many degrees."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=3e-3))
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name, spec):
    """A short training and a longer one."""
    return Config(train=LoopConfig(batch_size=64, steps=60 if name == "smoke" else 1_000))


def build(config, spec):
    """One network, trained by the squared error of angles in units of the largest, and measured in degrees."""
    model = CNN(config.widths, 1, hidden=64)

    def preprocess(rows, *, key, train):
        # Held-out images are turned by the same angle in every evaluation, whatever batch they come in.
        keys = jax.random.split(key, len(rows["row"])) if train else row_keys(jax.random.key(0), rows["row"])
        angle = jax.vmap(lambda key: jax.random.uniform(key, (1,), minval=-1.0))(keys)
        turned = jax.vmap(rotate)(scale(rows["image"], spec.levels), math.radians(config.largest) * angle[:, 0])
        return {**rows, "image": turned, "angle": angle}

    def evaluate(params, state, batch, key):
        guess, _ = model.apply(params, state, batch["image"])
        return {"degrees": Mean.of(config.largest * jnp.abs(guess - batch["angle"])[:, 0], batch["where"])}

    fit = fit_model(
        model,
        supervised(model, squared_error, targets="angle"),
        config,
        spec,
        preprocess=preprocess,
        evaluate=evaluate,
        summarize=lambda sums: {"mae_degrees": float(sums["degrees"].value())},
        monitor=("mae_degrees", "min"),
    )
    return System({"network": fit}, functions={"predict": lambda p, s, x: config.largest * model.apply(p, s, x)[0]})
