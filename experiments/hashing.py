"""Semantic hashing: short binary codes by which images find their like (lecture 20.2).

./launch/local.sh train --experiment=hashing --data=digits
./launch/local.sh train --experiment=hashing --data=fashion_mnist
./launch/local.sh train --experiment=hashing --data=fashion_mnist --preset=supervised

A network learns codes by contrast: two views of an image, a little moved, zoomed, mirrored and brightened, are to have
the same code, and other images another one. No label is used, unless `supervised`: then images of a class belong
together. The test images look for images of their class among all others, by Hamming distance, ties by index.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import retrieval
from dlcore.data import Data, DataSpec, Split, colour_jitter, random_flip, random_zoom, row_keys, scale, standardize
from dlcore.nn import Activation, BatchNorm, Dense, Flatten, serial
from dlcore.optim import OptimizerConfig
from dlcore.report.panel import panel
from dlcore.retrieval import LONGEST, bottleneck, code_summary, code_sums, contrastive_codes, search
from dlcore.train import (
    Findings,
    LoopConfig,
    Result,
    Study,
    System,
    budget,
    fit_model,
    joined,
    map_split,
    pixel_rows,
    standardized,
)
from dlcore.types import Batch, Key, Model, Params, State

PRESETS = ("smoke", "default", "full", "supervised")
SAMPLE, LENGTHS = 20_000, (8, 16, 32, 64)
"""Training images at most that ITQ sees; bits of the codes without a network in the figure."""
LOOK = ("asked", "found", "right", "distance", "label")


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    bits: int = 32
    widths: tuple[int, ...] = (1024, 512)
    """Hidden widths of the encoder."""
    bottleneck: str = "straight_through"
    """"straight_through", or "noise" before a sigmoid."""
    noise: float = 1.0
    """Standard deviation of the noise."""
    supervised: bool = False
    """Whether images of a class belong together, or only the views of an image."""
    temperature: float = 0.15
    """The smaller, the finer the differences that codes keep; few images want it large (by validation images)."""
    zoom: float = 0.15
    """Views are zoomed by a factor of up to 1 ± this, height and width apart, …"""
    shift: float = 0.5
    """… and moved by so many pixels at most."""
    brightness: float = 0.5
    flip: bool = True
    neighbours: int = 100
    """Precision is that of the first so many."""
    radius: int = 2
    """Of the ball that hash tables are looked up in."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    small = max(spec.shape[:2]) <= 16
    steps, every = (1_900, 380) if small else (4_290, 858)
    train = budget(spec.sizes[0], batch_size=256 if small else 512, steps=steps, every=every)
    base = Config(optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine"), train=train)
    if small:
        base = replace(base, widths=(256, 128), flip=False, temperature=0.5)
    if name == "smoke":
        return replace(base, widths=(128,), train=train.scaled(1 / 10, every=1 / 5))
    if name == "full":
        return replace(base, widths=(2048, 1024), train=train.scaled(5, every=2))
    if name == "supervised":
        return replace(base, supervised=True)
    return base


def make_model(config: Config, spec: DataSpec) -> Model:
    """The encoder: standardised images to logits [b, bits], normalised so that a bit is 1 about half of the time."""
    spec.need("hashing", images=True, labels=True)  # labels judge the codes
    if not 1 <= config.bits <= LONGEST:
        raise ValueError(f"bits must be 1 to {LONGEST}, which hash tables hold, got {config.bits}")
    if config.neighbours < 1:
        raise ValueError(f"neighbours must be at least 1, got {config.neighbours}")
    if not 0 <= config.radius <= 3:
        raise ValueError(f"radius must be 0 to 3, beyond which a ball has too many addresses, got {config.radius}")
    layers: list[Model] = [Flatten()]
    for width in config.widths:
        layers += [Dense(width), Activation("relu")]
    # Noise is outgrown by a scale; of a sign it has no part.
    last = BatchNorm(scale=config.bottleneck == "noise", bias=False)
    return serial(*layers, Dense(config.bits, bias=False), last)


def build(config: Config, spec: DataSpec) -> System:
    """Compose encoder, bottleneck, contrast, optimiser, what codes find, and figures."""
    model, standardize_images = make_model(config, spec), standardized(spec)

    def view(key: Key, images: Any) -> Any:
        keys = [jax.random.fold_in(key, i) for i in range(3)]
        images = random_zoom(keys[0], scale(images, spec.levels), config.zoom, config.shift)
        images = random_flip(keys[1], images) if config.flip else images
        return standardize(colour_jitter(keys[2], images, brightness=config.brightness), spec.mean, spec.std)

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        found = standardize_images(batch, key=key, train=train)
        if not train:
            return found
        views = jnp.stack([view(jax.random.fold_in(key, i), batch["image"]) for i in (0, 1)], 1)
        return {**found, "views": views, "group": batch["label" if config.supervised else "row"]}

    def logits_of(params: Params, state: State, x: Any) -> Any:
        return model.apply(params, state, x)[0]

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Mapping[str, Any]:
        moved = jax.vmap(view)(row_keys(key, batch["row"]), batch["image"])
        return code_sums(*(logits_of(params, state, x) for x in (batch["x"], moved)), batch["where"])

    def packed(params: Params, state: State, images: Any) -> Any:
        x = standardize_images({"image": images}, key=None, train=False)["x"]
        return retrieval.pack(retrieval.bits(logits_of(params, state, x)))

    fit = fit_model(
        model,
        contrastive_codes(model, bottleneck(config.bottleneck, config.noise), config.temperature),
        config,
        spec,
        inputs="x",
        preprocess=preprocess,
        evaluate=evaluate,
        summarize=code_summary,
        monitor=("bits_changed", "min"),
    )

    judged = ("trained", *retrieval.possible(config.bits, min(math.prod(spec.shape), spec.sizes[0])))
    search_all = Study(
        lambda key, data, results, cell: study(config, data, packed, results["codes"], cell),
        lambda found: retrieval.numbers({name: found[name] for name in judged}, config.neighbours),
        lambda found: draw(config, spec, {name: found[name] for name in judged}, found["lengths"]),
        uses=("codes",),
        cells=(*judged, "lengths"),
    )
    told = ("map", "precision_at_100", "map_itq"), ("retrieval/neighbours",)
    return System({"codes": fit, "retrieval": search_all}, {}, {"codes": packed}, *told)


def study(config: Config, data: Data, packed: Any, trained: Result, cell: str) -> Findings:
    """What one method's codes find: the test images among all others; the trained ones with a look at some of it."""
    if cell == "lengths":
        return Findings(lengths(config, data))
    network = functools.partial(packed, trained.params, trained.state)
    encoders = [network] if cell == "trained" else without_network(data, cell, config.bits)
    (queries, own), (database, labels) = (coded(encoders, x) for x in (data.test, joined(data.train, data.validation)))
    settings = {"bits": config.bits, "k": min(config.neighbours, len(labels)), "radius": config.radius}
    found = retrieval.measure(queries, database, own, labels, **settings)
    return Findings(found | ({"look": look(data, queries[0], database[0], labels)} if cell == "trained" else {}))


def without_network(data: Data, name: str, bits: int) -> list[Any]:
    """Encoders of images by a method without a network, fitted to the training images."""
    rows = lambda images: scale(images, data.spec.levels).reshape(len(images), -1)  # noqa: E731
    chosen = np.arange(0, data.train.size, -(-data.train.size // SAMPLE))
    fitted = retrieval.fit_incremental(pixel_rows(data.train, data.spec.levels), 1 if "lsh" in name else bits)
    sample = rows(jnp.asarray(data.train.read(chosen)["image"]))
    encoders = retrieval.encoders(name, fitted, sample, bits, key=jax.random.key(0))
    return [lambda images, encode=encode: encode(rows(images)) for encode in encoders]


def coded(encoders: Sequence[Any], split: Split) -> Any:
    """(codes by each encoder, labels) of all images of a split."""
    return map_split(lambda batch: ([one(batch["image"]) for one in encoders], batch["label"]), split, 2000)


def lengths(config: Config, data: Data) -> dict[str, Any]:
    """Precision by the bits of codes without a network, on 1,000 queries at most."""
    few = np.linspace(0, data.test.size - 1, min(data.test.size, 1000)).astype(int)
    queried = Split(len(few), lambda chosen: data.test.read(few[chosen]))
    others, found = joined(data.train, data.validation), {}
    names = retrieval.possible(max(LENGTHS), min(math.prod(data.spec.shape), data.train.size))[:-1]
    for bits in LENGTHS:
        for name in names:
            encoders = without_network(data, name, bits)
            (queries, own), (database, labels) = (coded(encoders, split) for split in (queried, others))
            nearest = search(jnp.asarray(queries[0]), jnp.asarray(database[0]), min(config.neighbours, len(labels)))
            found.setdefault(name, []).append((labels[nearest.index] == own[:, None]).mean())
    return {name: np.array(values) for name, values in found.items()}


def draw(config: Config, spec: DataSpec, found: Mapping[str, Any], lengths: Mapping[str, Any]) -> dict[str, Any]:
    """Precision against recall by method, and against the bits of the codes without a network."""
    curves = {name: (one["curve"]["precision"], one["curve"]["recall"]) for name, one in found.items()}
    *shown, labels = (found["trained"]["look"][name] for name in LOOK)
    names = [spec.class_names[label] for label in labels]
    point, k = (config.bits, float(found["trained"]["precision"])), config.neighbours
    return {
        "neighbours": panel("retrieval.grid", *shown, names, "test images and the nearest codes, distance in bits"),
        "precision_recall": panel("retrieval.precision_recall", curves, f"{spec.name}: {config.bits} bits"),
        "lengths": panel("retrieval.lengths", LENGTHS, lengths, point, k, f"{spec.name}: test images ask"),
    }


def look(data: Data, queries: np.ndarray, database: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Some test images and the ten nearest others, with their distances."""
    chosen = np.arange(8) % data.test.size
    asked = data.test.read(chosen)
    nearest = search(jnp.asarray(queries[chosen]), jnp.asarray(database), min(10, len(labels)))
    index = np.asarray(nearest.index)
    found = joined(data.train, data.validation).read(index.reshape(-1))["image"].reshape(*index.shape, *data.spec.shape)
    images = (scale(x, data.spec.levels) for x in (asked["image"], found))
    right = labels[index] == asked["label"][:, None]
    return dict(zip(LOOK, (*images, right, nearest.distance, asked["label"]), strict=True))
