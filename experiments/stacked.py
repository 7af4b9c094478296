"""Stacked denoising autoencoders: layers pretrained without labels, then fine-tuned with few or many (lecture 21.4).

./launch/local.sh train --experiment=stacked --data=digits
./launch/local.sh train --experiment=stacked --data=fashion_mnist

Stage `layer_k` trains one sigmoid layer to restore the clean codes of layer k − 1 (of the first, the pixels) from
corrupted ones. `classifier` begins with all layers as they were found, under a head that begins at random, and is
trained with all labels. `few_labels` trains the same network with so many labels from both starts, pretrained and
random, for several seeds: a seed draws the labelled images, the random layers and heads and the order of the images.
The pretrained layers are those of this run for all seeds; another `--seed` pretrains anew. Every training keeps the
params with the least error on the validation split, and is then tested on all test images.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlcore import evaluation
from dlcore.data import Data, DataSpec, flat_pixels, row_keys
from dlcore.evaluation import classification_summary
from dlcore.generative import autoencoder
from dlcore.generative.autoencoder import Autoencoder
from dlcore.losses import sigmoid_cross_entropy, softmax_cross_entropy, supervised
from dlcore.networks import SigmoidLayer, StackedClassifier, layer_name, through, unrolled
from dlcore.nn import Dense, by_row, corruption, example, summarize, table
from dlcore.optim import OptimizerConfig
from dlcore.report.panel import panel
from dlcore.studies import compare_starts, gains
from dlcore.train import (
    Findings,
    Fit,
    LoopConfig,
    Results,
    Study,
    System,
    budget,
    classified,
    fit_by_gradient,
    fit_model,
    map_data,
    means,
)
from dlcore.types import Batch, Key, Mean, Params, State

PRESETS = ("smoke", "default", "full")


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    widths: tuple[int, ...] = (256, 256, 256)
    """Units of the sigmoid layers."""
    corruption: str = "masking"
    """What a stage restores its input from: "masking", "gaussian" or "salt_and_pepper"."""
    level: float = 0.25
    """Share of the units that is masked or made 0 or 1, or σ."""
    tied: bool = True
    """Whether the decoder of a stage has the kernel of its encoder, transposed."""
    labels: tuple[int, ...] = (100, 1_000, 10_000)
    """Numbers of labelled images to compare the starts at."""
    seeds: int = 5
    """Trainings of each start with each number of labels."""
    tune_steps: int = 1_500
    tune_every: int = 150
    """Steps between two looks at the validation split, of which the best is kept."""
    tune_rate: float = 1e-3
    """Learning rate of Adam for few labels."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Of the classifier with all labels."""
    pretrain_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    pretrain: LoopConfig = field(default_factory=LoopConfig)
    """Of every layer; with 0 epochs no layer is pretrained, and both starts are the random one."""
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    small, examples = max(spec.shape[:2]) <= 16, spec.sizes[0]
    optimizer = OptimizerConfig(learning_rate=1e-3, schedule="cosine")
    size, pretrain, train, every = (64, 2_000, 1_000, 200) if small else (128, 4_290, 4_290, 429)
    labels = (50, 100, 300, 1_000) if small else (100, 1_000, 10_000)
    base = Config(
        widths=(128, 128, 128) if small else (256, 256, 256),
        labels=tuple(count for count in labels if count <= examples),
        optimizer=optimizer,
        pretrain_optimizer=optimizer,
        pretrain=budget(examples, batch_size=size, steps=pretrain, every=pretrain // 4),
        train=budget(examples, batch_size=size, steps=train, every=every, restore_best=True),
    )
    if name == "smoke":
        short = {"pretrain": base.pretrain.scaled(1 / 20), "train": base.train.scaled(1 / 10)}
        return replace(base, widths=base.widths[:2], seeds=2, labels=base.labels[:2], tune_steps=150, **short)
    if name == "full":
        wide = (256, 256, 256) if small else (1_000, 1_000, 1_000)
        return replace(base, widths=wide, seeds=10, pretrain=base.pretrain.scaled(4), train=base.train.scaled(2))
    return base


def check(config: Config, spec: DataSpec) -> None:
    """Raise `ValueError` for data or settings that cannot be."""
    spec.need("stacked", images=True, labels=True)
    if not config.widths:
        raise ValueError("widths must name at least one layer")
    if any(not 1 <= count <= spec.sizes[0] for count in config.labels):
        raise ValueError(f"labels must lie in 1 … {spec.sizes[0]}, the training images, got {config.labels}")
    if config.labels and config.seeds < 2:
        raise ValueError(f"seeds must be at least 2, for a standard deviation, got {config.seeds}")


def preprocess(spec: DataSpec, batch: Batch, *, key: Key | None, train: bool) -> Batch:
    """What a layer, or the classifier, is given as "image": pixels, or the codes of the layer before."""
    return {**batch, "image": batch["point"] if "point" in batch else flat_pixels(batch["image"], spec.levels)}


def codes(spec: DataSpec, used: Sequence[str], data: Data, results: Results) -> Data:
    """The clean codes of the layers that are used, as points of every split."""
    encoders = [results[name].params["encoder"] for name in used]

    def encoded(rows: Mapping[str, Any]) -> dict[str, jax.Array]:
        return {"point": through(encoders, flat_pixels(rows["image"], spec.levels)), "label": rows["label"]}

    return map_data(encoded, data)


def pretraining(config: Config, spec: DataSpec, index: int) -> Fit:
    """The stage of one layer: an autoencoder of the clean codes of the layers before."""
    inputs = (int(np.prod(spec.shape)), *config.widths)[index]
    ties = {"kernel": "dense/kernel"} if config.tied else autoencoder.UNTIED
    networks = Autoencoder(SigmoidLayer(config.widths[index]), Dense(inputs), ties)
    corrupt, below = corruption(config.corruption, config.level), tuple(layer_name(i) for i in range(index))

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        x, where = batch["image"], batch["where"]
        noisy = by_row(corrupt, row_keys(key, batch["row"]), x)
        logits = autoencoder.reconstruct(networks, params, state, noisy)
        error, nats = jnp.square(jax.nn.sigmoid(logits) - x), sigmoid_cross_entropy(logits, x)
        return {"cross_entropy_nats": Mean.of(nats.sum(1), where), "denoising_mse": Mean.of(error.mean(1), where)}

    return fit_by_gradient(
        autoencoder.reconstruction(networks, sigmoid_cross_entropy, corrupt=corrupt),
        replace(config, train=config.pretrain, optimizer=config.pretrain_optimizer),
        spec,
        init=lambda key, batch: autoencoder.init(key, networks, batch["image"]),
        preprocess=functools.partial(preprocess, spec),
        evaluate=evaluate,
        summarize=means,
        monitor=("cross_entropy_nats", "min"),
        describe=lambda: table(summarize(networks.encoder, example((inputs,)))),
        uses=below,
        data=functools.partial(codes, spec, below) if below else None,
    )


def build(config: Config, spec: DataSpec) -> System:
    """Compose the stages: a layer after the other, the classifier with all labels, and both starts with few."""
    check(config, spec)
    model = StackedClassifier(config.widths, spec.classes)
    asked = config.pretrain.steps or config.pretrain.epochs
    layers = {layer_name(i): pretraining(config, spec, i) for i in range(len(config.widths) if asked else 0)}

    def start(params: Params, state: State, results: Results) -> tuple[Params, State]:
        return unrolled(params, [results[name].params["encoder"] for name in layers]), state

    classifier = fit_model(
        model,
        supervised(model, softmax_cross_entropy),
        config,
        spec,
        shape=(int(np.prod(spec.shape)),),
        preprocess=functools.partial(preprocess, spec),
        evaluate=classified(model),
        summarize=classification_summary,
        monitor=("nll_nats", "min"),
        uses=tuple(layers),
        start=start if layers else None,
    )
    title = f"{len(config.widths)} sigmoid layers, {config.seeds} seeds"
    study = Study(
        functools.partial(compare, config, model, spec, start),
        lambda arrays: gains(arrays, baseline="random", other="pretrained"),
        lambda arrays: {"few_labels": panel("codes.few_labels", arrays, title)},
        uses=tuple(layers),
        cells=tuple(f"labels_{count}" for count in config.labels),
    )
    predict = lambda params, state, x: model.apply(params, state, x)[0]  # noqa: E731
    few = {"few_labels": study} if config.labels else {}
    return System({**layers, "classifier": classifier, **few}, {}, {"predict": predict}, ("accuracy", "gain*"))


def compare(
    config: Config, model: Any, spec: DataSpec, start: Any, key: Key, data: Data, results: Results, cell: str
) -> Findings:
    """Errors of all seeds from both starts with so many labelled images."""
    count = int(cell.removeprefix("labels_"))
    key = jax.random.fold_in(key, count)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    chosen = np.stack([rng.choice(data.train.size, count, replace=False) for _ in range(config.seeds)])
    rows = {name: jnp.asarray(values) for name, values in data.train.read(chosen.reshape(-1)).items()}

    def logits(params: Params, images: jax.Array) -> jax.Array:
        return model.apply(params, {}, flat_pixels(images, spec.levels))[0]

    def starts(key: Key) -> dict[str, Params]:
        random, state = model.init(key, flat_pixels(rows["image"][:1], spec.levels))
        return {"random": random, "pretrained": start(random, state, results)[0]}

    found = compare_starts(
        starts,
        lambda params, images, labels: softmax_cross_entropy(logits(params, images), labels).mean(),
        lambda params, rows: evaluation.error_rate(functools.partial(logits, params), rows["image"], rows["label"]),
        data.validation.all() if data.validation.size else None,
        data.test.all(),
        rows["image"].reshape(*chosen.shape, *spec.shape),
        rows["label"].reshape(chosen.shape),
        optax.adam(config.tune_rate),
        steps=config.tune_steps,
        every=config.tune_every,
        batch_size=min(config.train.batch_size, count),
        key=key,
    )
    return Findings(jax.tree.map(np.asarray, found))
