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
import optax

from dlcore import evaluation
from dlcore.data import Data, DataSpec
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.networks import MLP
from dlcore.nn import summarize, table
from dlcore.optim import (
    Density,
    Method,
    OptimizerConfig,
    Run,
    cma,
    damped_newton,
    extreme_eigenvalues,
    gradient_descent,
    hvp,
    momentum,
    nesterov,
    run,
    smooth,
    spectral_density,
    surfaces,
    transformed,
    transforms,
)
from dlcore.report.panel import panel
from dlcore.report.surfaces import Landscape
from dlcore.stats import per_example_gradients, sampled_noise
from dlcore.studies import train_many
from dlcore.train import Findings, LoopConfig, Results, Study, System, budget, fit_by_gradient, standardized
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
    study_batch: int = 64
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
            study_batch=32,
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
    if not spec.classes or len(spec.shape) != 3:
        raise ValueError(f"optimizers needs labelled images, and {spec.name} has none; use digits, for instance")
    model, preprocess = MLP(config.widths, spec.classes, activation=config.activation), standardized(spec, "image")

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Mapping[str, Any]:
        logits, labels, where = model.apply(params, state, batch["image"])[0], batch["label"], batch["where"]
        return {
            "nll_nats": Mean.of(softmax_cross_entropy(logits, labels), where),
            "accuracy": Mean.of(evaluation.correct(logits, labels), where),
        }

    fit = fit_by_gradient(
        supervised(model, softmax_cross_entropy, {"accuracy": evaluation.correct}),
        config.train,
        config.optimizer,
        spec.sizes[0],
        init=lambda key, batch: model.init(key, batch["image"]),
        preprocess=preprocess,
        evaluate=evaluate,
        summarize=lambda sums: {name: float(mean.value()) for name, mean in sums.items()},
        monitor=("nll_nats", "min"),
        describe=lambda: table(summarize(model, jax.ShapeDtypeStruct((1, *spec.shape), jnp.float32))),
    )

    def races(key: Key, data: Data, results: Results) -> Findings:
        return Findings(panels={**race_figures(config.race_steps), "descent": descent_figure()})

    def networks(key: Key, data: Data, results: Results) -> Findings:
        return Findings(panels=draw(config, model, preprocess, results["network"].params, data))

    stages = {"network": fit, "surfaces": Study(races, beside=True)}
    return System({**stages, "trainings": Study(networks, uses=("network",), beside=True)})


def draw(config: Config, model: Model, preprocess: Any, params: Params, data: Data) -> dict[str, Any]:
    """Figures of many small trainings, and of the trained network's curvature."""
    rows = preprocess(data.train.read(np.arange(min(config.study_examples, data.train.size))), key=None, train=False)
    x, y = jnp.asarray(rows["image"]), jnp.asarray(rows["label"])

    def losses(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return softmax_cross_entropy(model.apply(params, {}, x)[0], y)

    start = model.init(jax.random.key(SEED), x)[0]
    studies = functools.partial(
        train_many,
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
        "network_race": network_race_figure(config, studies, before),
        **rate_figures(config, studies, before),
        "batch_size": batch_figure(config, studies, losses, params, x[:256], y[:256]),
        "spectrum": spectrum_figure(config, lambda p, x, y: losses(p, x, y).mean(), params, x, y),
    }


RACERS: dict[str, tuple[Callable[[Any], Method], float]] = {
    "gradient descent": (gradient_descent, 1.0),
    "momentum, α = 0.9": (momentum, 1.0),
    "Nesterov, α = 0.9": (nesterov, 1.0),
    "Adam, ε = 0.1": (lambda rate: transformed(transforms.adam(0.1)), 1.0),
    "damped Newton": (lambda rate: damped_newton(), 0.1),
    "CMA-ES": (lambda rate: cma(0.3), 0.3),
}
"""name: (method from the surface's learning rate, its share of the steps)."""

TRACKS = {
    "ill-conditioned bowl": (surfaces.quadratic((1.0, 20.0), seed=3), 0.02),
    "Rosenbrock": (surfaces.rosenbrock()._replace(low=np.array([-1.7, -0.7]), high=np.array([1.7, 1.8])), 1e-3),
    "Himmelblau": (surfaces.himmelblau(), 5e-3),
    "saddle": (surfaces.saddle(), 0.05),
}
"""name: (surface, learning rate)."""


def race_figures(steps: int) -> dict[str, Any]:
    """Every method on every surface: the ways over contours, and f − f* against evaluations."""
    tracks = [surface for surface, _ in TRACKS.values()]
    starts = jnp.asarray(np.stack([surface.start for surface in tracks]), jnp.float32)
    rates = jnp.asarray([rate for _, rate in TRACKS.values()])

    def one(make: Callable[[Any], Method], steps: int, i: jax.Array, x0: jax.Array, rate: jax.Array) -> Run:
        def f(x: jax.Array) -> jax.Array:
            return jax.lax.switch(i, [surface.f for surface in tracks], x)

        return run(make(rate), f, x0, steps=steps, gradient_tolerance=1e-5, step_tolerance=1e-6, key=jax.random.key(1))

    ways = {}
    for name, (make, share) in RACERS.items():
        race = jax.jit(jax.vmap(functools.partial(one, make, max(int(share * steps), 10))))
        ways[name] = jax.tree.map(np.asarray, race(jnp.arange(len(tracks)), starts, rates))

    panels, gaps = [], {}
    for i, (title, surface) in enumerate(zip(TRACKS, tracks, strict=True)):
        upto = {name: slice(int(way.steps[i]) + 1) for name, way in ways.items()}
        panels.append(panel_of(title, surface, {n: ways[n].trace.points[i][s] for n, s in upto.items()}))
        gaps[title] = {
            n: (ways[n].trace.evaluations[i][s], ways[n].trace.values[i][s] - surface.value) for n, s in upto.items()
        }
    return {"race": panel("surfaces.paths", panels), "race_values": panel("surfaces.race", gaps)}


def panel_of(title: str, surface: surfaces.Surface, paths: Mapping[str, np.ndarray], size: int = 160) -> Landscape:
    """A surface on a grid with ways over it."""
    axes = [np.linspace(a, b, size, dtype=np.float32) for a, b in zip(surface.low, surface.high, strict=True)]
    points = np.stack(np.meshgrid(*axes), -1)
    values = np.asarray(jax.jit(jax.vmap(jax.vmap(surface.f)))(points))
    return Landscape(title, surface.low, surface.high, values, surface.value, surface.minima, paths)


def descent_figure() -> Any:
    """Gradient descent on a quadratic: too small, good, near the edge, beyond it."""
    surface, edge = surfaces.quadratic((1.0, 10.0), seed=3), 0.2
    rates = {"too small": 0.005, "good": 2 / 11, "just below the edge": 0.198, "beyond the edge": 0.206}
    x0 = jnp.asarray(surface.start * 0.8, jnp.float32)
    ways = jax.jit(jax.vmap(lambda rate: run(gradient_descent(rate), surface.f, x0, steps=40).trace.points))(
        jnp.asarray(list(rates.values()))
    )
    paths = {f"{name}, ε = {rate:.3g}": np.asarray(w) for (name, rate), w in zip(rates.items(), ways, strict=True)}
    return panel("surfaces.descent_rates", panel_of("quadratic, λ = 1, 10", surface, paths), edge)


CONTESTANTS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "SGD": transforms.sgd,
    "momentum": transforms.momentum,
    "Nesterov": transforms.nesterov,
    "AdaGrad": transforms.adagrad,
    "RMSProp": transforms.rmsprop,
    "Adam": transforms.adam,
}
"""name: transformation from a learning rate."""


def network_race_figure(config: Config, studies: Callable[..., jax.Array], start: float) -> Any:
    """Every optimiser at every learning rate, from one start and with the same batches."""
    settings, sizes = [(rate,) for rate in config.rates], [config.study_batch] * len(config.rates)
    found = {name: np.asarray(studies(make, settings, sizes)) for name, make in CONTESTANTS.items()}
    return panel("optimizers.race", config.rates, _way(found["SGD"]), found, start)


def _way(losses: np.ndarray) -> np.ndarray:
    """The steps after which losses [..., measured] were measured."""
    return EVERY * np.arange(1, losses.shape[-1] + 1)


def rate_figures(config: Config, studies: Callable[..., jax.Array], start: float) -> dict[str, Any]:
    """Learning rates without and with momentum, and the map of both."""
    settings = [(rate, alpha) for alpha in config.alphas for rate in config.rates]
    found = np.asarray(studies(transforms.momentum, settings, [config.study_batch] * len(settings)))
    found = found.reshape(len(config.alphas), len(config.rates), -1)
    # A run that is above twice where it began has left for good.
    final = np.where(found[..., -1] < 2 * start, found[..., -1], np.inf)
    named = {f"α = {alpha:g}": row for alpha, row in zip(config.alphas, final, strict=True)}
    middle, way = len(config.rates) // 2, _way(found)
    at_middle = found[:, middle], config.rates[middle]
    return {
        "learning_rate": panel("optimizers.learning_rates", config.rates, way, found[0], start, named),
        "momentum": panel("optimizers.momentum", config.rates, config.alphas, final, way, *at_middle),
    }


def batch_figure(
    config: Config,
    studies: Callable[..., jax.Array],
    losses: Callable[..., jax.Array],
    params: Params,
    x: jax.Array,
    y: jax.Array,
) -> Any:
    """Trainings with different batch sizes, and the noise of the gradient of x and y at the trained network."""
    settings = [(config.batch_rate,)] * len(config.batch_sizes)
    found = np.asarray(studies(transforms.sgd, settings, config.batch_sizes))

    def one(params: Params, example: tuple[jax.Array, jax.Array]) -> jax.Array:
        return losses(params, *(part[None] for part in example))[0]

    gradients = jax.jit(functools.partial(per_example_gradients, one))(params, (x, y))
    noise = gradient_noise(gradients)
    return panel("optimizers.batch_sizes", config.batch_sizes, _way(found), found, noise, config.batch_rate)


def gradient_noise(gradients: jax.Array, *, draws: int = 4000) -> dict[str, np.ndarray]:
    """E‖ĝ − g‖² of batches from examples with these gradients [n, d], measured and predicted (lecture 6.2)."""
    count = len(gradients)
    sizes = 2 ** np.arange(int(np.log2(count - 1)) + 1)
    found = [sampled_noise(jax.random.key(SEED + int(k)), gradients, int(k), draws) for k in sizes]
    one = float(jnp.square(gradients - gradients.mean(0)).sum() / count)
    return {
        "sizes": sizes,
        "measured": np.array([estimate.mean for estimate in found]),
        "error": np.array([estimate.standard_error for estimate in found]),
        "with": one / sizes,
        "without": one / sizes * (count - sizes) / (count - 1),
    }


def spectrum_figure(config: Config, loss: Callable[..., jax.Array], params: Params, x: jax.Array, y: jax.Array) -> Any:
    """The density of the Hessian's eigenvalues at the trained network, and what its largest allows."""

    def product(v: Params, params: Params, x: jax.Array, y: jax.Array) -> Params:
        return hvp(lambda p: loss(p, x, y), params, v)

    given = (product, params, params, x, y)
    key, size = jax.random.key(SEED), sum(leaf.size for leaf in jax.tree.leaves(params))
    extremes = extreme_eigenvalues(*given, key=key, steps=config.lanczos_steps, tolerance=1e-3)
    density = spectral_density(*given, key=key, steps=config.lanczos_steps, probes=config.probes)
    ends = extremes.smallest, extremes.largest
    unit = 3e-3 * max(map(abs, ends))
    title = f"Hessian of the training loss, {size:,} parameters: descent is stable for ε < 2/λmax"
    title += f" = {2 / extremes.largest:.2g}"
    return panel("optimizers.spectrum", *asinh_density(density, ends, unit), ends, unit, title)


def asinh_density(
    density: Density, ends: tuple[float, float], unit: float, width: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """λ and the density there, smoothed by a normal of deviation `width` on the scale asinh(λ/`unit`)."""
    nodes = density._replace(nodes=np.arcsinh(density.nodes / unit))
    first, last = np.arcsinh(np.array([min(ends[0], -unit), ends[1]]) / unit)
    t = np.linspace(first - 4 * width, last + 4 * width, 800)
    # Per unit of λ: dt/dλ = 1/√(λ² + s²).
    at = unit * np.sinh(t)
    return at, smooth(nodes, t, width) / np.sqrt(at**2 + unit**2)
