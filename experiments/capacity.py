"""Capacity: errors against the size of a model, and what to choose (lecture 1.4–1.8, 8.7).

./launch/local.sh train --experiment=capacity --data=digits

Trained are networks of one hidden layer of every width, at once, on the data. Beside them stand polynomials of every
degree on a regression problem whose truth is known, the degree that k-fold cross-validation chooses, and networks of
growing width on a continuous function.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.data.prepare import scale, standardize
from dlcore.data.source import Data, DataSpec, Split
from dlcore.losses.classification import softmax_cross_entropy
from dlcore.losses.supervised import supervised
from dlcore.networks.mlp import MLP
from dlcore.nn.graph import compose
from dlcore.nn.summary import summarize, table
from dlcore.optim.build import OptimizerConfig, learning_rate
from dlcore.optim.build import build as build_optimizer
from dlcore.report import studies
from dlcore.train import approximation, metrics, polynomial
from dlcore.train.config import LoopConfig, budget
from dlcore.train.cross_validation import Choice, choose
from dlcore.train.experiment import Experiment
from dlcore.train.updates import gradient_update
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


def make_prepare(spec: DataSpec) -> Any:
    """Standardised values as `x`."""

    def prepare(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        x = batch["point"] if len(spec.shape) == 1 else scale(batch["image"], spec.levels)
        return {**batch, "x": standardize(x, spec.mean, spec.std)}

    return prepare


def build(config: Config, spec: DataSpec) -> Experiment:
    """Compose networks, their summed loss, optimiser, errors by width and figures."""
    model, prepare = make_model(config, spec), make_prepare(spec)
    total = config.train.total_steps(spec.sizes[0])
    tx = build_optimizer(config.optimizer, total)

    def losses(logits: Any, labels: Any) -> Any:
        return softmax_cross_entropy(logits, jnp.broadcast_to(labels[:, None], logits.shape[:2]))

    # The sum gives every network the gradient that it would have alone.
    objective = supervised(model, lambda logits, labels: losses(logits, labels).sum(-1), inputs="x")
    names = [f"width_{width}" for width in config.widths]

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Mapping[str, Any]:
        logits, labels, where = model.apply(params, state, batch["x"])[0], batch["label"], batch["where"]
        right = metrics.correct(logits, jnp.broadcast_to(labels[:, None], logits.shape[:2]))
        nats = losses(logits, labels)
        each = {name: (Mean.of(right[:, i], where), Mean.of(nats[:, i], where)) for i, name in enumerate(names)}
        return {**each, "nll_nats": Mean.of(nats.mean(-1), where)}

    def summary(sums: Mapping[str, Any]) -> dict[str, float]:
        found = {"nll_nats": float(sums["nll_nats"].value())}
        for name in names:
            right, nats = (float(mean.value()) for mean in sums[name])
            found |= {f"error_{name}": 1 - right, f"nll_nats_{name}": nats}
        return found

    return Experiment(
        init=lambda key, batch: model.init(key, batch["x"]),
        updates=(gradient_update(objective, tx),),
        optimizers={"params": tx},
        prepare=prepare,
        evaluate=evaluate,
        summarize=summary,
        monitor=("nll_nats", "min"),
        learning_rates={"learning_rate": learning_rate(config.optimizer, total)},
        describe=lambda: table(summarize(model, jax.ShapeDtypeStruct((1, *spec.shape), jnp.float32))),
        anchors=lambda data: study_metrics(config),
        figures=lambda params, state, data: draw(config, model, prepare, params, state, data),
    )


class Polynomials(NamedTuple):
    """Nested polynomials on one training set, and the degree that cross-validation chooses."""

    x: np.ndarray
    y: np.ndarray
    train: np.ndarray
    """Mean squared training error by degree."""
    test: np.ndarray
    """The same on fresh points, many of them."""
    coefficients: np.ndarray
    choice: Choice


@functools.lru_cache(maxsize=2)
def polynomials(config: Config) -> Polynomials:
    """The study of degrees, in float64: the degree is chosen without a look at the test points."""
    with jax.enable_x64(True):
        x, y = polynomial.problem(jax.random.key(0), config.examples, config.noise)
        fresh_x, fresh_y = polynomial.problem(jax.random.key(1), 10_000, config.noise)
        found = polynomial.fit_degrees(x, y, config.degree)
        train = jnp.square(polynomial.predict(found, x) - y).mean(-1)
        test = jnp.square(polynomial.predict(found, fresh_x) - fresh_y).mean(-1)

        def fit(batch: Batch, degree: Any, key: Key) -> Any:
            weight = batch["where"].astype(x.dtype)
            return polynomial.fit_degrees(batch["x"], batch["y"], config.degree, weight=weight)[degree]

        def score(coefficients: Any, batch: Batch) -> Mean:
            return Mean.of(jnp.square(polynomial.predict(coefficients, batch["x"]) - batch["y"]), batch["where"])

        choice = choose(fit, score, {"x": x, "y": y}, jnp.arange(config.degree + 1), config.folds)
        arrays = [np.asarray(a) for a in (x, y, train, test, found)]
        return Polynomials(*arrays, choice._replace(scores=jax.tree.map(np.asarray, choice.scores)))


@functools.lru_cache(maxsize=2)
def approximations(config: Config) -> approximation.Approximations:
    """The study of widths on a continuous function."""
    key, widths = jax.random.key(0), config.function_widths
    found = approximation.approximate(key, approximation.bumps, widths, steps=config.function_steps)
    return jax.tree.map(np.asarray, found)


def study_metrics(config: Config) -> dict[str, float]:
    """What the studies beside the trained networks found."""
    found, approximated = polynomials(config), approximations(config)
    chosen = found.choice.index
    return {
        "polynomial_chosen_degree": float(chosen),
        "polynomial_best_degree": float(found.test.argmin()),
        "polynomial_chosen_mse": float(found.test[chosen]),
        "polynomial_best_mse": float(found.test.min()),
        "polynomial_highest_mse": float(found.test[-1]),
        **{
            f"function_rms_width_{width}": float(rms)
            for width, rms in zip(config.function_widths, approximated.rms, strict=True)
        },
    }


def draw(config: Config, model: Model, prepare: Any, params: Params, state: State, data: Data) -> dict[str, Any]:
    """Errors against capacity: of the trained networks, of polynomials, of approximations."""
    train, test = (errors(model, prepare, params, state, split) for split in (data.train, data.test))
    found, approximated = polynomials(config), approximations(config)
    grid = np.linspace(-1, 1, 301)
    scores = found.choice.scores
    mean, stderr = (np.asarray(f()) for f in (scores.mean, scores.stderr))
    with jax.enable_x64(True):
        values = np.asarray(polynomial.predict(jnp.asarray(found.coefficients), jnp.asarray(grid)))
        truth = np.asarray(polynomial.truth(jnp.asarray(grid)))
    panels = dict.fromkeys((1, found.choice.index, config.degree))
    x = np.linspace(-1, 1, approximated.values.shape[1])
    return {
        "widths": studies.capacity_curve(
            config.widths,
            train,
            test,
            xlabel="hidden units",
            ylabel="error rate",
            logarithmic=True,
            title=f"networks of one hidden layer on {data.spec.name}",
        ),
        "degrees": studies.capacity_curve(
            range(config.degree + 1),
            found.train,
            found.test,
            xlabel="degree of the polynomial",
            ylabel="mean squared error",
            validated=(mean, stderr),
            floor=config.noise**2,
            title=f"least squares on {config.examples} points, {config.folds}-fold cross-validation",
        ),
        "fits": studies.fits(found.x, found.y, grid, truth, {f"degree {d}": values[d] for d in panels}),
        "approximation": studies.approximations(
            x,
            np.asarray(approximation.bumps(jnp.asarray(x))),
            config.function_widths,
            approximated.values,
            approximated.rms,
            approximated.largest,
        ),
    }


def errors(model: Model, prepare: Any, params: Params, state: State, split: Split) -> np.ndarray:
    """Error rate [widths] over a split."""

    @jax.jit
    def wrong(batch: Batch) -> jax.Array:
        batch = prepare(batch, key=None, train=False)
        return (model.apply(params, state, batch["x"])[0].argmax(-1) != batch["label"][:, None]).sum(0)

    chunks = np.array_split(np.arange(split.size), -(-split.size // 5000))
    return sum(np.asarray(wrong(split.read(chunk))) for chunk in chunks) / split.size
