"""Principal components of images, and autoencoders beside them (lecture 20.1).

./launch/local.sh train --experiment=pca --data=digits
./launch/local.sh train --experiment=pca --data=fashion_mnist

`test/mse` is that of the best linear code of `k` numbers, pixels in [0, 1], with mean and components of the training
split. Trained beside it are a linear autoencoder with as many numbers, which is to span the same subspace, and
nonlinear ones with every number in `dims`, all at once.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlcore import retrieval
from dlcore.data import Data, DataSpec, scale, standardize
from dlcore.losses import squared_error
from dlcore.networks import MLPDecoder, MLPEncoder
from dlcore.nn import compose, serial
from dlcore.optim import OptimizerConfig, make_optimizer
from dlcore.report.panel import panel
from dlcore.retrieval import principal_angles
from dlcore.train import (
    Findings,
    LoopConfig,
    Results,
    Study,
    System,
    budget,
    fit_model,
    gradient_update,
    map_split,
    pixel_rows,
)
from dlcore.types import Aux, Batch, Key, Mean, Model, Params, State

PRESETS = ("smoke", "default", "full")
LINEAR = "linear"
"""Name of the linear autoencoder among the networks."""


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    components: int = 32
    """Numbers of the code whose error is reported, and of the linear autoencoder."""
    compared: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128)
    """Numbers of the codes that are compared."""
    widths: tuple[int, ...] = (256,)
    """Hidden widths of the nonlinear encoders; their decoders have them in reverse."""
    activation: str = "gelu"
    linear_rate: float = 1e-2
    """Learning rate of the linear autoencoder, which has a long flat valley to go through."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    small = max(spec.shape[:2]) <= 16
    optimizer = OptimizerConfig(learning_rate=2e-3, schedule="cosine", warmup_steps=50)
    steps, every = (5_700, 570) if small else (5_160, 1_290)
    train = budget(spec.sizes[0], batch_size=128, steps=steps, every=every)
    most = min(math.prod(spec.shape), spec.sizes[0])
    base = Config(optimizer=optimizer, train=train, compared=tuple(k for k in Config.compared if k < most) or (1,))
    if small:
        base = replace(base, components=16, widths=(128,))
    base = replace(base, components=min(base.components, most))
    if name == "smoke":
        return replace(base, compared=base.compared[:4], widths=(64,), train=train.scaled(1 / 10, every=1 / 10))
    if name == "full":
        return replace(base, widths=(1024, 256), train=train.scaled(5, every=2))
    return base


def make_model(config: Config, spec: DataSpec) -> Model:
    """The autoencoders side by side: images [b, h, w, c] to reconstructions by name."""
    spec.need("pca", images=True)
    most = min(math.prod(spec.shape), spec.sizes[0])
    for setting, dims in (("components", (config.components,)), ("compared", config.compared)):
        if not dims or not all(1 <= k <= most for k in dims):
            raise ValueError(f"{setting} must be 1 to {most} on {spec.name}, got {dims}")

    def network(k: int, widths: tuple[int, ...]) -> Model:
        encoder = MLPEncoder(widths, k, activation=config.activation)
        return serial(encoder, MLPDecoder(widths[::-1], spec.shape, activation=config.activation))

    parts = {LINEAR: network(config.components, ())}
    parts |= {f"nonlinear_{k}": network(k, config.widths) for k in config.compared}
    return compose(lambda call, x: {name: call(name, x) for name in parts}, **parts)


def build(config: Config, spec: DataSpec) -> System:
    """Compose autoencoders, their summed error, optimiser, components and figures."""
    model = make_model(config, spec)

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        images = scale(batch["image"], spec.levels)
        return {**batch, "image": images, "x": standardize(images, spec.mean, spec.std)}

    def errors(params: Params, batch: Batch) -> dict[str, Any]:
        found = model.apply(params, {}, batch["x"])[0]
        return {name: squared_error(image, batch["image"]).mean((1, 2, 3)) for name, image in found.items()}

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Any = None
    ) -> tuple[Any, Aux]:
        # A sum, so that every network has the gradient that it would have alone.
        found = sum(errors(params, batch).values())
        return found.mean(), Aux(state, {"loss": Mean.of(found)})

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Mapping[str, Any]:
        return {name: Mean.of(error, batch["where"]) for name, error in errors(params, batch).items()}

    def summary(sums: Mapping[str, Any]) -> dict[str, float]:
        found = {f"mse_{name}": float(mean.value()) for name, mean in sums.items()}
        return found | {"mse_autoencoders": float(np.mean(list(found.values())))}

    total = config.train.total_steps(spec.sizes[0])
    steeper = replace(config.optimizer, learning_rate=config.linear_rate)
    rates = {"linear": make_optimizer(steeper, total), "nonlinear": make_optimizer(config.optimizer, total)}
    fit = fit_model(
        model,
        objective,
        config,
        spec,
        inputs="x",
        preprocess=preprocess,
        evaluate=evaluate,
        summarize=summary,
        monitor=("mse_autoencoders", "min"),
    )
    fit = fit._replace(update=gradient_update(objective, optax.transforms.partition(rates, kind_of)))
    stages = {
        "components": Study(lambda key, data, results: analyse(config, data), component_metrics),
        "autoencoders": fit,
        "comparison": Study(functools.partial(compare, config), angle_metrics, uses=("components", "autoencoders")),
    }
    return System(stages, headline=("mse", "explained_ratio", "mse_linear"))


def kind_of(params: Params) -> Params:
    """Whether every leaf belongs to the linear autoencoder or to a nonlinear one."""
    kinds = {name: "linear" if name == LINEAR else "nonlinear" for name in params}
    return {name: jax.tree.map(lambda _, kind=kinds[name]: kind, part) for name, part in params.items()}


def analyse(config: Config, data: Data) -> Findings:
    """Components of the training split, and errors of the test split for every length of code."""
    spec = data.spec
    most = min(math.prod(spec.shape), spec.sizes[0])
    fitted = retrieval.fit_incremental(pixel_rows(data.train, spec.levels), most)
    kept = {k: retrieval.keep(fitted, k) for k in sorted({*config.compared, config.components})}

    def lost(batch: Batch) -> dict[str, Any]:
        x = scale(batch["image"], spec.levels).reshape(len(batch["image"]), -1)
        return {str(k): retrieval.reconstruction_mse(first, x) for k, first in kept.items()}

    mse = {k: values.astype(np.float64).mean() for k, values in map_split(lost, data.test).items()}
    largest = max(kept)
    arrays = {
        "components": fitted.components[:largest].astype(np.float32),
        "mean": fitted.mean,
        "explained_variance": fitted.explained_variance,
        "explained_variance_ratio": fitted.explained_variance_ratio,
        "mse": mse,
        "reported_mse": mse[str(config.components)],
        "reported_ratio": fitted.explained_variance_ratio[: config.components].sum(),
    }
    return Findings(arrays, draw(config, data, fitted, kept))


def compare(config: Config, key: Key, data: Data, results: Results) -> Findings:
    """Errors by length of code, and the angles between the linear autoencoder's subspace and the principal one."""
    trained, found = results["autoencoders"], results["components"].arrays
    axes = jnp.float32(found["components"][: config.components])
    decoder = [leaf for leaf in jax.tree.leaves(trained.params[LINEAR]) if leaf.shape == axes.shape]
    angles = np.asarray(principal_angles(jnp.asarray(decoder[-1]), axes))
    linear = {"linear autoencoder": (config.components, trained.metrics["mse_linear"])}
    curves = {
        "PCA": [float(found["mse"][str(k)]) for k in config.compared],
        "nonlinear autoencoders": [trained.metrics[f"mse_nonlinear_{k}"] for k in config.compared],
    }
    title = f"{data.spec.name}: reconstruction of test images"
    panels = {
        "errors": panel("components.errors", config.compared, curves, linear, title=title),
        "angles": panel("components.angles", angles, f"linear autoencoder against {len(axes)} principal components"),
    }
    return Findings({"angles": angles}, panels)


def component_metrics(found: Mapping[str, Any]) -> dict[str, float]:
    """The error at the length of code that the configuration names, the variance explained, and errors at others."""
    by_length = {f"mse_pca_{k}": float(value) for k, value in found["mse"].items()}
    return {"mse": float(found["reported_mse"]), "explained_ratio": float(found["reported_ratio"])} | by_length


def angle_metrics(found: Mapping[str, Any]) -> dict[str, float]:
    """Angles between the subspaces of the linear autoencoder and of the principal components, in radians."""
    return {"angle_largest": float(found["angles"].max()), "angle_median": float(np.median(found["angles"]))}


def draw(config: Config, data: Data, fitted: retrieval.PCA, kept: Mapping[int, retrieval.PCA]) -> dict[str, Any]:
    """Variance explained, components as images, and reconstructions of test images."""
    shape, count = data.spec.shape, min(31, len(fitted.components))
    chosen = scale(jnp.asarray(data.test.read(np.arange(10) % data.test.size)["image"]), data.spec.levels)
    x = chosen.reshape(len(chosen), -1)
    lines = [("image", np.asarray(chosen))]
    for k in config.compared:
        image = retrieval.inverse_transform(kept[k], retrieval.transform(kept[k], x))
        lines.append((f"k = {k}", np.clip(np.asarray(image).reshape(chosen.shape), 0, 1)))
    first = fitted.components[:count].reshape(count, *shape)
    ratio = fitted.explained_variance_ratio
    return {
        "explained": panel("components.explained", ratio, f"{data.spec.name}: {len(x[0])} directions"),
        "components": panel("components.directions", fitted.mean.reshape(shape), first, ratio[:count]),
        "reconstructions": panel("images.rows", lines, "test images from k principal components"),
    }
