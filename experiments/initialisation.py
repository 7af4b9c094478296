"""Initialisers: the same deep network from several starts, trained at once (lecture 10.2–10.6).

./launch/local.sh train --experiment=initialisation --data=digits

Beside the training stand the sizes of activations and gradients through the layers at the start, and the singular
values of the layers' Jacobians.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import optax

from dlcore.data import DataSpec
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.nn import Activation, Dense, Flatten, by_name, init, serial
from dlcore.optim import OptimizerConfig, make_optimizer
from dlcore.report.panel import panel
from dlcore.studies import scaling
from dlcore.train import LoopConfig, SideBySide, System, apart, budget, gradient_update, side_by_side
from dlcore.types import Model, Params

PRESETS = ("smoke", "default", "full")
SCHEMES = {
    "zeros": init.zeros,
    "normal_0.01": init.normal(0.01),
    "normal_0.3": init.normal(0.3),
    "lecun": init.lecun_normal,
    "glorot": init.glorot_normal,
    "he": init.he_normal,
    "orthogonal": init.orthogonal(),
}


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    schemes: tuple[str, ...] = tuple(SCHEMES)
    """Names of initialisers of the hidden layers."""
    depth: int = 20
    width: int = 64
    activation: str = "relu"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    small = max(spec.shape) <= 16
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.05, clip_norm=1.0)
    steps, every = (570, 57) if small else (2_577, 430)
    train = budget(spec.sizes[0], batch_size=64, steps=steps, every=every)
    base = Config(optimizer=optimizer, train=train)
    if name == "smoke":
        short = train.scaled(1 / 5) if small else train.scaled(1 / 20, every=0.15)
        return replace(base, depth=8, width=32, train=short)
    if name == "full":
        return replace(base, depth=50, width=128, train=train.scaled(2))
    return base


def make_networks(config: Config, spec: DataSpec) -> SideBySide:
    """The networks side by side: [b, ...] to logits [b, schemes, classes]."""
    spec.need("initialisation", labels=True)
    unknown = [name for name in config.schemes if name not in SCHEMES]
    if unknown or not config.schemes:
        raise ValueError(f"schemes must be some of {', '.join(SCHEMES)}, got {config.schemes}")

    def network(initializer: init.Initializer) -> Model:
        layers: list[Model] = [Flatten()]
        for _ in range(config.depth):
            layers += [Dense(config.width, kernel_init=initializer), Activation(config.activation)]
        return serial(*layers, Dense(spec.classes))

    return side_by_side({name: network(SCHEMES[name]) for name in config.schemes})


def build(config: Config, spec: DataSpec) -> System:
    """Compose networks, their summed loss, optimiser, errors by scheme and figures."""
    networks = make_networks(config, spec)
    objective = supervised(networks.model, networks.summed(softmax_cross_entropy), inputs="x")
    total = config.train.total_steps(spec.sizes[0])
    # Each network is clipped by its own norm: one that explodes must not slow the others.
    transforms = {name: make_optimizer(config.optimizer, total) for name in config.schemes}

    def summary(sums: Mapping[str, Any]) -> dict[str, float]:
        found = networks.summary(sums)
        return {**found, "nll_nats": min(found[f"nll_nats_{name}"] for name in config.schemes)}

    fit = networks.fit(objective, softmax_cross_entropy, config, spec, summarize=summary)
    fit = fit._replace(update=gradient_update(objective, optax.transforms.partition(transforms, by_part)))
    look = apart(panels=lambda arrays: {"scaling": draw(config)})
    return System({"networks": fit, "scaling": look}, headline=("accuracy_*",))


def by_part(params: Params) -> Params:
    """The name of the network that every leaf belongs to."""
    return {name: jax.tree.map(lambda _, name=name: name, part) for name, part in params.items()}


def draw(config: Config) -> Any:
    """Sizes and singular values through the layers at the start."""
    study = {
        name: scaling(jax.random.key(0), SCHEMES[name], by_name(config.activation), depth=config.depth)
        for name in config.schemes
    }
    return panel("scales.scaling", study, f"{config.depth} layers of {config.activation}")
