"""What the fits of most systems share: one optimiser on one objective, standardised inputs, a function over a split."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dlcore.data import (
    Data,
    DataSpec,
    Rows,
    Split,
    binarize,
    binarize_rows,
    evaluation_batches,
    in_memory,
    scale,
    standardize,
)
from dlcore.evaluation import classification_sums
from dlcore.nn import example, last_features, pad_sides, summarize, table
from dlcore.optim import learning_rate, make_optimizer
from dlcore.train._step import Preprocess
from dlcore.train._system import Fit
from dlcore.train._updates import chain, ema_update, gradient_update, repeated, reported, with_average
from dlcore.types import Batch, Key, Mean, Model, Objective, Params, State, Update


def fit_by_gradient(
    objective: Objective, config: Any, spec: DataSpec, *, ema: float = 0.0, microbatches: int = 1, **parts: Any
) -> Fit:
    """A fit that descends one objective with one optimiser, as `config.train` and `config.optimizer` say.

    It keeps a moving average with decay `ema` unless that is 0; `parts` are the other fields of `Fit`.
    """
    total = config.train.total_steps(spec.sizes[0])
    gradient = gradient_update(objective, make_optimizer(config.optimizer, total), microbatches=microbatches)
    rates = {"learning_rate": learning_rate(config.optimizer, total)}
    return Fit(loop=config.train, update=with_average(gradient, ema), **{"learning_rates": rates, **parts})


def adversarial_update(
    objectives: Mapping[str, Objective], txs: Mapping[str, Any], *, steps: int = 1, ema: float = 0.0
) -> Update:
    """`steps` updates of the discriminator, then one of the generator, then the average with decay `ema`, if any.

    `objectives` and optimisers `txs` are called "discriminator" and "generator", as the branches of the params that
    they change are; the discriminator's `d_real` stays in the report.
    """
    parts = {name: gradient_update(objectives[name], txs[name], only=f"{name}/**") for name in objectives}
    return chain(
        discriminator=reported(repeated(parts["discriminator"], steps), "d_real"),
        generator=parts["generator"],
        **({"ema": ema_update(ema)} if ema else {}),
    )


def fit_model(
    model: Model,
    objective: Objective,
    config: Any,
    spec: DataSpec,
    *,
    inputs: str = "image",
    shape: Sequence[int] | None = None,
    preprocess: Preprocess | None = None,
    **parts: Any,
) -> Fit:
    """`fit_by_gradient` of one model of `batch[inputs]`: how it starts, and the table of its layers.

    The inputs are `standardized`, unless `preprocess` makes them; `shape` is that of one example of them, if not the
    data's own.
    """
    seen = example(spec.shape if shape is None else shape)
    return fit_by_gradient(
        objective,
        config,
        spec,
        preprocess=standardized(spec, inputs) if preprocess is None else preprocess,
        init=lambda key, batch: model.init(key, batch[inputs]),
        describe=lambda: table(summarize(model, seen)),
        **parts,
    )


def standardized(spec: DataSpec, name: str = "x") -> Preprocess:
    """Points, or pixels in [0, 1], less mean and over standard deviation of the training split, under `name`."""

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        x = batch["point"] if len(spec.shape) == 1 else scale(batch["image"], spec.levels)
        return {**batch, name: standardize(x, spec.mean, spec.std)}

    return preprocess


def unit_pixels(spec: DataSpec, *, binary: bool = False) -> Preprocess:
    """Pixels in [0, 1]; if `binary` drawn as 0 or 1, anew for training and by row for held-out images."""

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        images = scale(batch["image"], spec.levels)
        if binary:
            images = binarize(key, images) if train else binarize_rows(images, batch["row"])
        return {**batch, "image": images}

    return preprocess


def signed_pixels(spec: DataSpec) -> Preprocess:
    """Pixels in [−1, 1]; points as they are."""

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        if len(spec.shape) == 1:
            return batch
        return {**batch, "image": 2 * scale(batch["image"], spec.levels) - 1}

    return preprocess


def even_images(factor: int) -> Preprocess:
    """Grey levels with black pixels at the right and below until `factor` divides both sides; points as they are."""

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        return {**batch, "image": pad_sides(batch["image"], factor)} if "image" in batch else batch

    return preprocess


def joined(*splits: Split) -> Split:
    """The rows of several splits, one after the other."""
    ends = np.cumsum([split.size for split in splits])

    def read(rows: np.ndarray) -> Rows:
        of = np.searchsorted(ends, rows, side="right")
        parts = [
            (np.flatnonzero(of == i), split, end - split.size)
            for i, (split, end) in enumerate(zip(splits, ends, strict=True))
        ]
        found = [(places, split.read(rows[places] - start)) for places, split, start in parts if len(places)]
        back = np.argsort(np.concatenate([places for places, _ in found]))
        return {name: np.concatenate([part[name] for _, part in found])[back] for name in found[0][1]}

    return Split(int(ends[-1]), read)


def pixel_rows(split: Split, levels: int, most: int = 2000) -> Iterator[np.ndarray]:
    """Images of a split as rows of pixels in [0, 1], float64, at most so many rows at a time."""
    for batch in evaluation_batches(split, batch_size=min(split.size, most)):
        images = batch["image"][batch["where"]]
        yield images.reshape(len(images), -1) / np.float64(levels - 1)


def map_split(function: Callable[[Mapping[str, Any]], Any], split: Split, most: int = 1000) -> Any:
    """`function(rows)` over a whole split, compiled, at most so many rows at a time; leaves joined on their first axis.

    `rows` are raw, with their numbers as `row`.
    """
    compiled = jax.jit(function)
    chunks = np.array_split(np.arange(split.size, dtype=np.int32), -(-split.size // most))
    found = [jax.device_get(compiled({**split.read(chunk), "row": chunk})) for chunk in chunks]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def map_data(function: Callable[[Mapping[str, Any]], Mapping[str, Any]], data: Data) -> Data:
    """The data with what `function` makes of every split (`map_split`), held in memory: for `Fit.data`.

    Rows keep their order and number; a split without rows stays as it is.
    """
    splits = {name: getattr(data, name) for name in ("train", "validation", "test")}
    made = {name: in_memory(dict(map_split(function, split))) for name, split in splits.items() if split.size}
    return data._replace(**made)


def means(sums: Mapping[str, Mean]) -> dict[str, float]:
    """Every mean as a number: the `summarize` of a fit whose metrics are means."""
    return {name: float(mean.value()) for name, mean in sums.items()}


def classified(model: Model, name: str = "image") -> Callable[[Params, State, Batch, Key], dict[str, Any]]:
    """The `evaluate` of a classifier of `batch[name]`, whose `summarize` is `evaluation.classification_summary`."""
    return classified_by(lambda params, state, x: model.apply(params, state, x)[0], name)


def classified_by(
    predict: Callable[[Params, State, Any], Any], name: str = "image"
) -> Callable[[Params, State, Batch, Key], dict[str, Any]]:
    """`classified` of a function to logits."""

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        log_p = jax.nn.log_softmax(predict(params, state, batch[name]))
        return classification_sums(log_p, batch["label"], batch["where"])

    return evaluate


def features_and_logits(model: Model, preprocess: Preprocess) -> Callable[..., tuple[Any, Any]]:
    """`(params, state, images uint8 [n, h, w, c]) -> (inputs of the last layer [n, d], logits [n, classes])`."""

    @jax.jit
    def extract(params: Params, state: State, images: Any) -> tuple[Any, Any]:
        return last_features(model, params, state, preprocess({"image": images}, key=None, train=False)["image"])

    return extract


def one_of_each(split: Split, count: int) -> np.ndarray:
    """Row numbers of at most `count` examples: the first of every class, then the second of every class, and so on."""
    labels = split.all()["label"]
    turn = np.empty(len(labels), int)
    for label in np.unique(labels):
        (rows,) = np.nonzero(labels == label)
        turn[rows] = np.arange(len(rows))
    return np.lexsort((labels, turn))[:count]
