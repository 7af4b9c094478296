"""A study of sample quality: distances of samples to real images, on features of a classifier that runs share."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.data import Data, DataSpec, Split, binarize_rows, scale
from dlcore.evaluation import baselines, covered_classes, quality
from dlcore.report.panel import Panel
from dlcore.train._builders import fit_by_gradient
from dlcore.train._system import Findings, Fit, Result, Results, RunSpec, Study, System, gallery, likelihood
from dlcore.train.progress import ticker
from dlcore.types import Key, Objective

CLASSIFIER = {"classifier": RunSpec("classify", "features")}
"""The run that measures: put it among the `needs` of the system."""

HEADLINE = ("bits_per_dim", "nll_nats", "elbo_nats", "frechet", "precision", "recall", "classes")
"""What generative models are judged by, as far as they have it."""

BATCH = 256
"""Samples drawn at once."""


def quality_study(fit: str, spec: DataSpec, sample: Callable[..., Any] | None, count: int) -> dict[str, Study]:
    """The stage `quality`, or nothing where there is nothing to compare: no sampler, no classes, or no images.

    `count` samples of the stage `fit`, or as many as the smaller of the real splits holds, are compared with test
    images; the floor compares as many training images. The classifier, its accuracy and the layer whose input counts
    (the last) are part of the recipe: distances compare only where it is the same.
    """
    count = min(count, spec.sizes[0], spec.sizes[2])
    if count < 2 or sample is None or not spec.classes or len(spec.shape) != 3:
        return {}

    def compute(key: Key, data: Data, results: Results) -> Findings:
        rng = np.random.default_rng(0)
        test, real = (_some(rng, split, count) for split in (data.test, data.train))
        images = _drawn(sample, results[fit], spec.levels, count)
        extract = _extractor(results["classifier"])
        (samples, logits), (tests, _), (reals, _) = map(extract, (images, test["image"], real["image"]))
        found = quality(samples, tests, reals)._asdict()
        found["classes"] = float(covered_classes(logits.argmax(-1), test["label"], spec.classes))
        accuracy = results["classifier"].metrics["test/accuracy"]
        recipe = {"samples": count, "features": samples.shape[1], "classifier_accuracy": accuracy}
        return Findings({"metrics": found, "recipe": recipe})

    return {"quality": Study(compute, lambda arrays: arrays["metrics"], uses=(fit, "classifier"), beside=True)}


def _some(rng: np.random.Generator, split: Split, count: int) -> dict[str, np.ndarray]:
    return split.read(np.sort(rng.choice(split.size, count, replace=False)))


def _extractor(classifier: Result) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """`images uint8 [n, h, w, c] -> (features, logits)` as NumPy arrays, in batches."""

    def features(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chunks = np.array_split(images, -(-len(images) // BATCH))
        pairs = [classifier.functions["features"](classifier.params, classifier.state, chunk) for chunk in chunks]
        return tuple(np.concatenate([np.asarray(x) for x in part]) for part in zip(*pairs, strict=True))

    return features


def _drawn(sample: Callable[..., Any], model: Result, levels: int, count: int) -> np.ndarray:
    """`count` samples as grey levels, uint8 [count, h, w, c]."""
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(-(-count // BATCH))]
    tell, parts = ticker("samples to be compared", count), []
    for i, key in enumerate(keys):
        tell(i * BATCH)
        parts.append(np.asarray(sample(model.params, model.state, key, BATCH)))
    images = np.concatenate(parts)[:count]
    return np.round(np.clip(images, 0, 1) * (levels - 1)).astype(np.uint8)


def image_baselines(data: Data) -> dict[str, float]:
    """`dlcore.evaluation.baselines` of the test images as they are stored."""
    return baselines(data.train.all()["image"], data.test.all()["image"], data.spec.levels)


def binary_baselines(data: Data) -> dict[str, float]:
    """The same of images binarised as held-out ones are, by row."""
    splits = [data.train.all()["image"], data.test.all()["image"]]
    binary = [
        binarize_rows(scale(jnp.asarray(x), data.spec.levels), jnp.arange(len(x), dtype=jnp.int32)) for x in splits
    ]
    return baselines(*(np.asarray(x).astype(np.uint8) for x in binary), 2)


def generative_system(
    name: str,
    fit: Fit,
    spec: DataSpec,
    draw: Callable[[Result, Data], Mapping[str, Panel]],
    *,
    quality_samples: int,
    code_lengths: Callable[[Data], Mapping[str, float]] | None = None,
) -> System:
    """The system of a generative model: its fit, and beside it model-free baselines, sample quality and figures.

    `draw(trained, data)` gives what the stage `gallery` shows, `code_lengths(data)` metrics of the test split that
    need no model.
    """
    stages: dict[str, Fit | Study] = {name: fit}
    if code_lengths is not None:
        kept = lambda key, data, results: Findings({"metrics": code_lengths(data)})  # noqa: E731
        stages["baselines"] = Study(kept, lambda arrays: arrays["metrics"], beside=True)
    measured = quality_study(name, spec, fit.sample, quality_samples)
    stages |= measured
    stages["gallery"] = gallery(name, draw)
    return System(stages, CLASSIFIER if measured else {}, headline=HEADLINE, picture=("gallery/samples",))


def density_system(
    name: str,
    objective: Objective,
    config: Any,
    spec: DataSpec,
    draw: Callable[[Result, Data], Mapping[str, Panel]],
    *,
    kind: str,
    of: str = "x",
    binary: bool = False,
    **parts: Any,
) -> System:
    """The `generative_system` of a likelihood that one optimiser descends, averaged as `config.ema` says.

    `kind` and `of` say what its `bits_per_dim` are (`likelihood`), and code lengths without a model stand beside them,
    of images as they are stored or `binary`; "" is the density of data that have none. `parts` are the other fields of
    `Fit`.
    """
    fit = fit_by_gradient(objective, config, spec, ema=config.ema, ruler=likelihood(kind, of) if kind else {}, **parts)
    lengths = (binary_baselines if binary else image_baselines) if kind else None
    return generative_system(name, fit, spec, draw, quality_samples=config.quality_samples, code_lengths=lengths)
