"""Transfer: what was learnt on some classes as the start for others, with few labels (lecture 18).

./launch/local.sh train --experiment=transfer --data=digits
./launch/local.sh train --experiment=transfer --data=fashion_mnist
./launch/local.sh train --experiment=transfer --data=fashion_mnist --set=source=runs/classify-fashion_mnist-default

A network learns the first half of the classes. On the other half, with few labels of each, it is then trained from
scratch, with all but a new head frozen (linear probe), as a whole with smaller steps for lower layers, and with layers
that unfreeze one after the other. With `source` the network is that of another run, of an exported file, or the weights
of PyTorch's definition of `model` in a `.safetensors` file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import evaluation, networks, train
from dlcore.data import Data, DataSpec, few_rows, only_classes
from dlcore.interop import names_of, torch_weights
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.networks import CNN
from dlcore.nn import freeze_statistics, summarize
from dlcore.optim import OptimizerConfig, layer_decay, make_optimizer, unfreezing
from dlcore.report.panel import panel
from dlcore.train import LoopConfig
from dlcore.types import Batch, Key, Model, Params, State

PRESETS = ("smoke", "default", "full")
METHODS = ("scratch", "probe", "finetune", "gradual")


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    model: str = "cnn"
    """"cnn", or an architecture by name, such as "cifar_resnet20"."""
    widths: tuple[int, ...] = (32, 64, 64)
    """Channels of the CNN's stages."""
    source: str = ""
    """A run folder, an exported file or PyTorch's weights to start from; empty to train on the first classes."""
    source_classes: int = 1000
    """Classes of PyTorch's weights."""
    layers: tuple[str, ...] = ()
    """Patterns of paths from the input to below the head, which have rates of their own and unfreeze in turn; empty for
    the parts of the network in their order."""
    head: str = "head/**"
    """Pattern of what is new for every task."""
    layer_decay: float = 0.5
    """By how much each group of layers takes smaller steps than the one above."""
    keep_statistics: bool = True
    """Whether batch norms keep the statistics that were learnt, in all but training from scratch."""
    methods: tuple[str, ...] = METHODS
    labels: tuple[int, ...] = (10, 50, 500)
    """Labelled images per new class. Each training on them takes `steps` steps of `batch_size` images."""
    seeds: int = 5
    steps: int = 300
    batch_size: int = 64
    target_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimiser on the new classes."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    small = max(spec.shape[:2]) <= 16
    few = OptimizerConfig(name="adamw", learning_rate=3e-3, schedule="cosine", epsilon=1e-6, weight_decay=0.01)
    steps = {"smoke": 100 if small else 60, "default": 600, "full": 3_000}[name]
    loop = replace(train.budget(spec.sizes[0] // 2, batch_size=64, steps=steps, every=0), steps=steps)
    labels = (2, 10, 50) if small else (10, 50, 500)
    base = Config(widths=(16, 32, 32), labels=labels, target_optimizer=few, optimizer=few, train=loop)
    if name == "smoke":
        return replace(base, widths=(8, 16), methods=METHODS[:3], labels=base.labels[:2], seeds=2, steps=30)
    return replace(base, widths=(32, 64, 64), seeds=10) if name == "full" else base


def halves(spec: DataSpec) -> tuple[range, range]:
    """The classes to learn first, and the new ones."""
    if not spec.classes or len(spec.shape) != 3 or spec.classes < 4:
        raise ValueError(
            f"transfer needs images of four classes or more, and {spec.name} has {spec.classes or 0} classes"
        )
    return range(spec.classes // 2), range(spec.classes // 2, spec.classes)


def make_model(config: Config, spec: DataSpec, classes: int) -> Model:
    """The network with a head for so many classes."""
    if config.model == "cnn":
        return CNN(config.widths, classes, activation="silu", pool="avg")
    return networks.network(config.model, classes, min(spec.shape[:2]), others=("cnn",))


def groups(config: Config, model: Model, image: Any) -> tuple[Any, ...]:
    """Patterns of the groups of layers in the order in which they are called, the head last."""
    learnt = jax.eval_shape(model.init, jax.random.key(0), image)[0]
    called = [row.path for row in summarize(model, image) if row.path in learnt]
    return (*(config.layers or (f"{name}/**" for name in called if name != config.head.split("/")[0])), config.head)


def make_methods(config: Config, model: Model, parts: tuple[Any, ...]) -> dict[str, Any]:
    """The update of each method, for a network of these groups of layers."""
    kept = freeze_statistics(model) if config.keep_statistics else model
    tx = make_optimizer(config.target_optimizer, config.steps)
    waits = [config.steps * (len(parts) - 1 - i) // (2 * len(parts)) for i in range(len(parts))]
    whole, objective = (supervised(m, softmax_cross_entropy, inputs="x") for m in (model, kept))
    known = {
        "scratch": (whole, tx, "**"),
        "probe": (objective, tx, config.head),
        "finetune": (objective, layer_decay(tx, parts, config.layer_decay), "**"),
        "gradual": (objective, unfreezing(tx, parts, waits), "**"),
    }
    if unknown := [name for name in config.methods if name not in known]:
        raise ValueError(f"methods must be some of {', '.join(known)}, got {unknown[0]!r}")
    return {name: train.gradient_update(*known[name][:2], only=known[name][2]) for name in config.methods}


def trained_start(config: Config, spec: DataSpec, results: train.Results) -> tuple[Params, State]:
    """Params and state to start from: of the first stage, of a run or its export, or PyTorch's weights."""
    if not config.source:
        return results["first"].params, results["first"].state

    def of_torch(path: Path) -> tuple[Params, State]:
        whole = make_model(config, spec, config.source_classes)
        like = jax.eval_shape(whole.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *spec.shape), jnp.float32))
        return torch_weights.read(path, names_of(config.model), *like)

    return train.loaded(config.source, of_torch)


def build(config: Config, spec: DataSpec) -> train.System:
    """A first fit, unless there is a source, and the grid of methods and numbers of labels."""
    first, new = halves(spec)
    preprocess = train.standardized(spec)
    if config.seeds < 1 or min(config.labels, default=0) < 1 or max(config.labels) * len(new) > spec.sizes[0]:
        most = spec.sizes[0] // len(new)
        raise ValueError(f"seeds={config.seeds} must be at least 1, and labels={config.labels} some of 1 to {most}")
    model, image = make_model(config, spec, len(new)), jax.ShapeDtypeStruct((1, *spec.shape), jnp.float32)
    like = jax.eval_shape(model.init, jax.random.key(0), image)
    # Here, so that unknown methods and patterns are refused before anything is trained.
    updates = make_methods(config, model, groups(config, model, image))
    steps = {name: jax.jit(train.make_train_step(update, preprocess)) for name, update in updates.items()}
    for update in updates.values():
        jax.eval_shape(update.init, *like)

    def compute(key: Key, data: Data, results: train.Results, cell: str) -> train.Findings:
        part, start = only_classes(data, new), trained_start(config, spec, results)
        count, seeds = int(cell.partition("_")[2]), range(config.seeds)
        found = {name: np.array([one(name, part, start, count, i) for i in seeds]) for name in config.methods}
        return train.Findings({"accuracy": found})

    def one(name: str, part: Data, start: tuple[Params, State], count: int, seed: int) -> float:
        """Test accuracy after one training."""
        key, update = jax.random.key(seed), updates[name]
        few = part.train.read(few_rows(part.train.all()["label"], count, seed))

        def begin(key: Key) -> tuple[Params, State]:
            fresh = model.init(key, image)
            old = fresh if name == "scratch" else start
            return tuple(train.swapped(a, b, config.head) for a, b in zip(old, fresh, strict=True))

        state = train.create(key, begin, update)
        rng = np.random.default_rng(seed)
        for _ in range(config.steps):
            rows = rng.choice(len(few["label"]), config.batch_size, replace=len(few["label"]) < config.batch_size)
            state, _ = steps[name](state, {k: v[rows] for k, v in few.items()})
        return float(np.mean(train.map_split(lambda rows: right(state.params, state.state, rows), part.test)))

    @jax.jit
    def right(params: Params, state: State, batch: Batch) -> jax.Array:
        logits = model.apply(params, state, preprocess(batch, key=None, train=False)["x"])[0]
        return evaluation.correct(logits, batch["label"])

    cells = tuple(f"labels_{n}" for n in config.labels)
    grid = train.Study(
        compute,
        lambda arrays: metrics(arrays, config),
        lambda arrays: {"transfer": draw(arrays, config, len(new))},
        uses=() if config.source else ("first",),
        cells=cells,
    )
    fit = {} if config.source else {"first": first_fit(config, spec, first)}
    return train.System({**fit, "few": grid}, headline=("gain_*", "accuracy_finetune_*"))


def first_fit(config: Config, spec: DataSpec, classes: range) -> Any:
    """Training on the first classes."""
    model = make_model(config, spec, len(classes))

    return train.fit_model(
        model,
        supervised(model, softmax_cross_entropy, inputs="x"),
        config,
        spec,
        inputs="x",
        preprocess=train.standardized(spec),
        evaluate=train.classified(model, "x"),
        summarize=evaluation.classification_summary,
        monitor=("nll_nats", "min"),
        data=lambda data, results: only_classes(data, classes),
    )


def metrics(arrays: Mapping[str, Any], config: Config) -> dict[str, float]:
    """Mean accuracy by method and number of labels, its deviation over seeds, and what fine-tuning gains."""
    found: dict[str, float] = {}
    for n in config.labels:
        scores = arrays[f"labels_{n}"]["accuracy"]
        found |= {f"accuracy_{name}_{n}": float(values.mean()) for name, values in scores.items()}
        found |= {f"accuracy_{name}_{n}_sd": float(values.std()) for name, values in scores.items()}
        if {"scratch", "finetune"} <= set(scores):
            found[f"gain_{n}"] = float((scores["finetune"] - scores["scratch"]).mean())
    return found


def draw(arrays: Mapping[str, Any], config: Config, classes: int) -> Any:
    """Accuracy against labels."""
    scores = {m: np.stack([arrays[f"labels_{n}"]["accuracy"][m] for n in config.labels]) for m in config.methods}
    return panel("transfer.curves", config.labels, scores, 1 / classes)
