"""Optimisers: races on surfaces and on a network, studies of rate, batch size and momentum, the Hessian's spectrum.

./launch/local.sh train --experiment=optimizers --data=digits

A multi-layer perceptron is trained as by classify; after that the figures are drawn (lecture 4–7). The studies train
many small copies at once with vmap on the training split alone; the spectrum is that of the trained network.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import evaluation, optim, report, studies
from dlcore.data import Data, DataSpec
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.networks import MLP
from dlcore.optim import OptimizerConfig, transforms
from dlcore.report.panel import panel
from dlcore.stats import noise_by_size, per_example_gradients
from dlcore.train import (
    LoopConfig,
    Result,
    System,
    apart,
    budget,
    count_params,
    fit_model,
    gallery,
    means,
    standardized,
)
from dlcore.types import Batch, Key, Mean, Model, Params, State

PRESETS = ("smoke", "default", "full")
EVERY = 5
"""Steps between two measurements of a study's loss."""
SEED = 0
"""Of all draws in studies: they are the same whatever the run's own seed."""


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    widths: tuple[int, ...] = (64, 32)
    """Hidden widths of the network."""
    activation: str = "tanh"
    """Smooth, so that the Hessian exists everywhere."""
    race_steps: int = 1000
    """Steps of the first-order methods on the surfaces."""
    study_examples: int = 1024
    """Training examples that the studies and the spectrum use."""
    study_steps: int = 300
    study_batch_size: int = 64
    rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    alphas: tuple[float, ...] = (0.0, 0.5, 0.9, 0.97)
    batch_sizes: tuple[int, ...] = (1, 4, 16, 64, 256)
    batch_rate: float = 0.1
    """Learning rate of the study of batch sizes."""
    lanczos_steps: int = 100
    probes: int = 6
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    optimizer = OptimizerConfig(name="momentum", learning_rate=0.1, schedule="cosine", momentum=0.9)
    steps, every = (1_140, 190) if max(spec.shape) <= 16 else (51_540, 8_590)
    train = budget(spec.sizes[0], batch_size=64, steps=steps, every=every)
    base = Config(optimizer=optimizer, train=train)
    if name == "smoke":
        return replace(
            base,
            widths=(32,),
            race_steps=200,
            study_examples=512,
            study_steps=60,
            study_batch_size=32,
            rates=(0.003, 0.03, 0.3, 3.0),
            alphas=(0.0, 0.9),
            batch_sizes=(1, 8, 64),
            lanczos_steps=40,
            probes=2,
            train=train.scaled(1 / 6, every=1 / 2),
        )
    if name == "full":
        return replace(base, widths=(128, 64), study_steps=1500, lanczos_steps=150, probes=12)
    return base


def build(config: Config, spec: DataSpec) -> System:
    """Compose network, loss, optimiser, metrics and figures."""
    spec.need("optimizers", images=True, labels=True)
    model = MLP(config.widths, spec.classes, activation=config.activation)

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Mapping[str, Any]:
        logits, labels, where = model.apply(params, state, batch["image"])[0], batch["label"], batch["where"]
        return {
            "nll_nats": Mean.of(softmax_cross_entropy(logits, labels), where),
            "accuracy": Mean.of(evaluation.correct(logits, labels), where),
        }

    fit = fit_model(
        model,
        supervised(model, softmax_cross_entropy, {"accuracy": evaluation.correct}),
        config,
        spec,
        evaluate=evaluate,
        summarize=means,
        monitor=("nll_nats", "min"),
    )

    races = apart(panels=lambda arrays: race_figures(config.race_steps))
    trainings = gallery("network", functools.partial(draw, config, model))
    stages = {"network": fit, "surfaces": races, "trainings": trainings}
    return System(stages, headline=("accuracy", "nll_nats"), picture=("surfaces/race", "trainings/network_race"))


def draw(config: Config, model: Model, trained: Result, data: Data) -> dict[str, Any]:
    """Figures of many small trainings, and of the trained network's curvature."""
    rows = standardized(data.spec, "image")(data.train.first(config.study_examples), key=None, train=False)
    x, y = jnp.asarray(rows["image"]), jnp.asarray(rows["label"])

    def losses(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return softmax_cross_entropy(model.apply(params, {}, x)[0], y)

    start = jax.jit(model.init)(jax.random.key(SEED), x)[0]
    trainings = functools.partial(
        studies.train_many,
        losses,
        start,
        x,
        y,
        steps=max(config.study_steps // EVERY, 1) * EVERY,
        every=EVERY,
        key=jax.random.key(SEED),
    )
    before = float(losses(start, x, y).mean())
    return {
        "network_race": network_race_figure(config, trainings, before),
        **rate_figures(config, trainings, before),
        "batch_size": batch_figure(config, trainings, losses, trained.params, x[:256], y[:256]),
        "spectrum": spectrum_figure(config, lambda p, x, y: losses(p, x, y).mean(), trained.params, x, y),
    }


def race_figures(steps: int) -> dict[str, Any]:
    """Every method on every surface: the ways over contours, and f − f* against evaluations; gradient descent alone."""
    landscapes, gaps = [], {}
    for title, ways in studies.race(steps).items():
        surface, _ = studies.TRACKS[title]
        points = {name: way.points for name, way in ways.items()}
        landscapes.append(report.surfaces.landscape(title, surface, studies.heights(surface), points))
        gaps[title] = {name: (way.evaluations, way.values - surface.value) for name, way in ways.items()}
    shown = {"race": panel("surfaces.paths", landscapes), "race_values": panel("surfaces.race", gaps)}
    return shown | {"descent": descent_figure()}


def descent_figure() -> Any:
    """Gradient descent on a quadratic: too small, good, near the edge, beyond it."""
    surface, edge = optim.surfaces.quadratic((1.0, 10.0), seed=3), 0.2
    rates = {"too small": 0.005, "good": 2 / 11, "just below the edge": 0.198, "beyond the edge": 0.206}
    ways = studies.descents(surface, surface.start * 0.8, list(rates.values()), 40)
    paths = {f"{name}, ε = {rate:.3g}": way for (name, rate), way in zip(rates.items(), ways, strict=True)}
    ground = report.surfaces.landscape("quadratic, λ = 1, 10", surface, studies.heights(surface), paths)
    return panel("surfaces.descent_rates", ground, edge)


def network_race_figure(config: Config, trainings: Callable[..., jax.Array], start: float) -> Any:
    """Every optimiser at every learning rate, from one start and with the same batches."""
    settings, sizes = [(rate,) for rate in config.rates], [config.study_batch_size] * len(config.rates)
    found = {name: np.asarray(trainings(make, settings, sizes)) for name, make in studies.CONTESTANTS.items()}
    return panel("optimizers.race", config.rates, _way(found["SGD"]), found, start)


def _way(losses: np.ndarray) -> np.ndarray:
    """The steps after which losses [..., measured] were measured."""
    return EVERY * np.arange(1, losses.shape[-1] + 1)


def rate_figures(config: Config, trainings: Callable[..., jax.Array], start: float) -> dict[str, Any]:
    """Learning rates without and with momentum, and the map of both."""
    settings = [(rate, alpha) for alpha in config.alphas for rate in config.rates]
    found = np.asarray(trainings(transforms.momentum, settings, [config.study_batch_size] * len(settings)))
    found = found.reshape(len(config.alphas), len(config.rates), -1)
    return report.optimizers.rate_studies(config.rates, config.alphas, found, _way(found), start)


def batch_figure(
    config: Config,
    trainings: Callable[..., jax.Array],
    losses: Callable[..., jax.Array],
    params: Params,
    x: jax.Array,
    y: jax.Array,
) -> Any:
    """Trainings with different batch sizes, and the noise of the gradient of x and y at the trained network."""
    settings = [(config.batch_rate,)] * len(config.batch_sizes)
    found = np.asarray(trainings(transforms.sgd, settings, config.batch_sizes))

    def one(params: Params, example: tuple[jax.Array, jax.Array]) -> jax.Array:
        return losses(params, *(part[None] for part in example))[0]

    gradients = jax.jit(functools.partial(per_example_gradients, one))(params, (x, y))
    noise = noise_by_size(gradients, seed=SEED)
    return panel("optimizers.batch_sizes", config.batch_sizes, _way(found), found, noise, config.batch_rate)


def spectrum_figure(config: Config, loss: Callable[..., jax.Array], params: Params, x: jax.Array, y: jax.Array) -> Any:
    """The density of the Hessian's eigenvalues at the trained network, and what its largest allows."""
    options = {"steps": config.lanczos_steps, "probes": config.probes}
    found = studies.hessian_spectrum(loss, params, x, y, key=jax.random.key(SEED), **options)
    title = f"Hessian of the training loss, {count_params(params):,} parameters: descent is stable for ε < 2/λmax"
    return panel("optimizers.spectrum", *found, f"{title} = {2 / found.extremes[1]:.2g}")
