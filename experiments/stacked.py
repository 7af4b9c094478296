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

from dlcore.data.preprocess import row_keys, scale
from dlcore.data.source import Data, DataSpec, Split, in_memory
from dlcore.evaluation import metrics
from dlcore.generative import autoencoder
from dlcore.generative.autoencoder import Autoencoder
from dlcore.losses.classification import sigmoid_cross_entropy, softmax_cross_entropy
from dlcore.losses.supervised import supervised
from dlcore.networks.stacked import SigmoidLayer, StackedClassifier, layer_name, unrolled
from dlcore.nn.corrupt import by_row, corruption
from dlcore.nn.dense import Dense
from dlcore.nn.summary import summarize, table
from dlcore.optim.build import OptimizerConfig
from dlcore.report.panel import panel
from dlcore.studies.fine_tuning import fine_tune
from dlcore.train.builders import fit_by_gradient, map_split
from dlcore.train.config import LoopConfig, budget
from dlcore.train.system import Findings, Fit, Results, Study, System
from dlcore.types import Batch, Key, Mean, Params, State

PRESETS = ("smoke", "default", "full")
STARTS = ("random", "pretrained")


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
    if len(spec.shape) != 3 or spec.levels is None or not spec.classes:
        raise ValueError(f"stacked needs labelled images, and {spec.name} has none; use digits, for instance")
    if not config.widths:
        raise ValueError("widths must name at least one layer")
    if any(not 1 <= count <= spec.sizes[0] for count in config.labels):
        raise ValueError(f"labels must lie in 1 … {spec.sizes[0]}, the training images, got {config.labels}")
    if config.labels and config.seeds < 2:
        raise ValueError(f"seeds must be at least 2, for a standard deviation, got {config.seeds}")


def pixels(spec: DataSpec, images: Any) -> jax.Array:
    """Grey levels to flat rows in [0, 1]."""
    return scale(images, spec.levels).reshape(len(images), -1)


def preprocess(spec: DataSpec, batch: Batch, *, key: Key | None, train: bool) -> Batch:
    """What a layer, or the classifier, is given as "image": pixels, or the codes of the layer before."""
    return {**batch, "image": batch["point"] if "point" in batch else pixels(spec, batch["image"])}


def codes(spec: DataSpec, used: Sequence[str], data: Data, results: Results) -> Data:
    """The clean codes of the layers that are used, as points of every split."""

    def encoded(split: Split) -> Split:
        def compute(rows: Mapping[str, Any]) -> dict[str, jax.Array]:
            h = pixels(spec, rows["image"])
            for name in used:
                params = results[name].params["encoder"]
                h = SigmoidLayer(params["dense"]["bias"].shape[0]).apply(params, {}, h)[0]
            return {"point": h, "label": rows["label"]}

        return in_memory(map_split(compute, split)) if split.size else split

    return data._replace(train=encoded(data.train), validation=encoded(data.validation), test=encoded(data.test))


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
        error = jnp.square(jax.nn.sigmoid(logits) - x).mean(1)
        nats = sigmoid_cross_entropy(logits, x).sum(1)
        return {"cross_entropy_nats": Mean.of(nats, where), "denoising_mse": Mean.of(error, where)}

    return fit_by_gradient(
        autoencoder.reconstruction(networks, sigmoid_cross_entropy, corrupt=corrupt),
        config.pretrain,
        config.pretrain_optimizer,
        spec.sizes[0],
        init=lambda key, batch: autoencoder.init(networks, key, batch["image"]),
        preprocess=functools.partial(preprocess, spec),
        evaluate=evaluate,
        summarize=lambda sums: {name: float(mean.value()) for name, mean in sums.items()},
        monitor=("cross_entropy_nats", "min"),
        describe=lambda: table(summarize(networks.encoder, jax.ShapeDtypeStruct((1, inputs), jnp.float32))),
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

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        logits, labels, where = model.apply(params, state, batch["image"])[0], batch["label"], batch["where"]
        right, nats = metrics.correct(logits, labels), softmax_cross_entropy(logits, labels)
        return {"accuracy": Mean.of(right, where), "nll_nats": Mean.of(nats, where)}

    image = jax.ShapeDtypeStruct((1, int(np.prod(spec.shape))), jnp.float32)
    classifier = fit_by_gradient(
        supervised(model, softmax_cross_entropy),
        config.train,
        config.optimizer,
        spec.sizes[0],
        init=lambda key, batch: model.init(key, batch["image"]),
        preprocess=functools.partial(preprocess, spec),
        evaluate=evaluate,
        summarize=lambda sums: {name: float(mean.value()) for name, mean in sums.items()},
        monitor=("nll_nats", "min"),
        describe=lambda: table(summarize(model, image)),
        uses=tuple(layers),
        start=start if layers else None,
    )
    study = Study(
        functools.partial(compare, config, model, spec, start),
        functools.partial(gains, config),
        functools.partial(draw, config),
        uses=tuple(layers),
        cells=tuple(f"labels_{count}" for count in config.labels),
    )
    predict = lambda params, state, images: model.apply(params, state, pixels(spec, images))[0]  # noqa: E731
    few = {"few_labels": study} if config.labels else {}
    return System({**layers, "classifier": classifier, **few}, functions={"predict": predict})


def compare(
    config: Config, model: Any, spec: DataSpec, start: Any, key: Key, data: Data, results: Results, cell: str
) -> Findings:
    """Errors of all seeds from both starts with so many labelled images; arrays [seeds], and by look [seeds, looks]."""
    count, size = int(cell.removeprefix("labels_")), data.train.size
    rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key, count))))
    chosen = np.stack([rng.choice(size, count, replace=False) for _ in range(config.seeds)])
    rows = data.train.read(chosen.reshape(-1))
    images = rows["image"].reshape(*chosen.shape, *spec.shape)
    # Without a validation split there is nothing to choose by, and the last params are kept.
    held, test = (split.all() if split.size else None for split in (data.validation, data.test))

    def loss(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
        return softmax_cross_entropy(model.apply(params, {}, pixels(spec, images))[0], labels).mean()

    def error(rows: Mapping[str, Any], params: Params) -> jax.Array:
        def wrong(row: tuple[jax.Array, jax.Array]) -> jax.Array:
            logits = model.apply(params, {}, pixels(spec, row[0][None]))[0]
            return 1 - metrics.correct(logits, row[1][None])[0]

        return jax.lax.map(wrong, (rows["image"], rows["label"]), batch_size=500).mean()

    @jax.jit
    def run(key: Key, images: jax.Array, labels: jax.Array, held: Any, test: Any) -> dict[str, Any]:
        random, state = model.init(jax.random.fold_in(key, 0), pixels(spec, images[:1]))
        starts = [random, start(random, state, results)[0]]
        tuned = jax.vmap(
            lambda start: fine_tune(
                loss,
                None if held is None else functools.partial(error, held),
                start,
                images,
                labels,
                optax.adam(config.tune_rate),
                steps=config.tune_steps,
                every=config.tune_every,
                batch_size=min(config.train.batch_size, count),
                key=jax.random.fold_in(key, 1),
            )
        )(jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts))
        return {"error": jax.vmap(functools.partial(error, test))(tuned.params), "validation": tuned.errors}

    keys = jax.random.split(jax.random.fold_in(key, count), config.seeds)
    labels = rows["label"].reshape(chosen.shape)
    found = jax.vmap(run, (0, 0, 0, None, None))(keys, images, labels, held, test)
    return Findings({start: {k: np.asarray(v[:, i]) for k, v in found.items()} for i, start in enumerate(STARTS)})


def gains(config: Config, arrays: Mapping[str, Any]) -> dict[str, float]:
    """Mean error and standard deviation over the seeds, and how much smaller the error of the pretrained start is."""
    found: dict[str, float] = {}
    for count in config.labels:
        errors = {start: arrays[f"labels_{count}"][start]["error"] for start in STARTS}
        for start, values in errors.items():
            found |= {f"error_{start}_{count}": values.mean(), f"error_{start}_{count}_std": values.std(ddof=1)}
        found[f"relative_gain_{count}"] = 1 - errors["pretrained"].mean() / errors["random"].mean()
    return found


def draw(config: Config, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Error against the number of labels."""
    errors = {
        f"{start} start": np.stack([arrays[f"labels_{count}"][start]["error"] for count in config.labels])
        for start in STARTS
    }
    title = f"{len(config.widths)} sigmoid layers, {config.seeds} seeds"
    return {"few_labels": panel("codes.few_labels", config.labels, errors, title)}
