"""Looking inside a trained classifier: attributions side by side and measured, what layers see and keep (lecture 17).

./launch/local.sh train --experiment=visualize --data=digits
./launch/local.sh train --experiment=visualize --data=fashion_mnist
./launch/local.sh train --experiment=visualize --data=digits --set=source=runs/classify-digits-default

`by_class/figures/explorer.html` is a page to choose image, class, method and layer on.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import visualize
from dlcore.data import Data, DataSpec, Standardize, scale
from dlcore.lookup import check_name
from dlcore.report import inside as figures
from dlcore.report.panel import panel
from dlcore.train import Findings, Results, RunSpec, Study, System, one_of_each, session
from dlcore.tree import named_leaves
from dlcore.types import Key, Model, Params, State
from dlcore.visualize import METHODS, SIGNED, Picture, Question, Settings, compared, measures
from experiments import classify

PRESETS = ("smoke", "default", "full")

BATCH = 256
"""Images of the data set that pass the network at once."""

PRICES = (0.0, 10.0)
"""Of total variation, at which images of classes are found."""


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    classifier: str = "default"
    """Preset of `classify`, trained once and shared; one with convolutions."""
    source: str = ""
    """Instead of it a run folder of `classify`, or the `.safetensors` of one, which has to stay where it is."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Attributions by name; "random" is what they have to beat."""
    layer: str = ""
    """Path of the part that class activation maps weigh; empty for the last one that has places."""
    patch_layer: str = ""
    """Path of the part whose strongest patches are shown; empty for the middle one of those that have places."""
    images: int = 8
    """Test images that are drawn, one of each class in turn."""
    measured: int = 128
    """Test images over which methods are compared."""
    noise: float = 0.15
    """σ of SmoothGrad, as a fraction of the range of the pixels."""
    samples: int = 32
    steps: int = 128
    """Points on the path of integrated gradients."""
    window: int = 0
    """Side of the occluding window in pixels; 0 for a seventh of the image, two at least."""
    masks: int = 1000
    """Random masks of RISE."""
    curve_steps: int = 16
    """Points of the curves of deletion and insertion."""
    descent: int = 400
    """Steps by which images are found: of activation maximisation, and of feature inversion."""


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset."""
    # As many images are measured as drawn: each method is compiled once.
    smoke = Config("smoke", measured=8, samples=8, steps=32, masks=100, curve_steps=8, descent=60)
    return {"smoke": smoke, "default": Config(), "full": Config("full", measured=1000, masks=4000)}[name]


class Source(NamedTuple):
    """Where the classifier comes from: a need of this run, or another run or its export."""

    model: Model
    spec: DataSpec
    """Of the data that it was trained on: their mean and standard deviation prepare images."""
    opened: session.OpenRun | None = None

    def view(self, results: Results) -> tuple[Params, State]:
        """Its params and state."""
        held = self.opened or results["classifier"]
        return tuple(jax.tree.map(jnp.asarray, tree) for tree in (held.params, held.state))


def make_source(config: Config, spec: DataSpec) -> Source:
    """The classifier that `config` names. Raises `ValueError` for a run of another kind, or on images of others."""
    check_name("preset of classify", config.classifier, classify.PRESETS)
    if not config.source:
        return Source(classify.make_model(classify.preset(config.classifier, spec), spec), spec)
    opened = session.open_run(config.source, with_data=False)
    kind, trained = opened.run.names.get("experiment"), opened.run.spec
    if kind != "classify":
        raise ValueError(f"source={config.source} is a run of {kind}; give one of classify")
    if (trained.shape, trained.classes) != (spec.shape, spec.classes):
        of = f"images {trained.shape} of {trained.classes} classes, {spec.name} has {spec.shape} of {spec.classes}"
        raise ValueError(f"source={config.source} was trained on {of}; use it with --data={trained.name}")
    return Source(classify.make_model(opened.config, trained), trained, opened)


def make_settings(config: Config, network: visualize.Network, spec: DataSpec) -> Settings:
    """What the methods are told, for images like `spec`."""
    side, std = min(spec.shape[:2]), config.noise / float(np.mean(spec.std))
    window = config.window or max(2, side // 7)
    options = {"window": window, "stride": max(1, window // 2), "masks": config.masks, "grid": min(7, side // 2)}
    return Settings(network.layer, std, samples=config.samples, steps=config.steps, **options)


class Shown(NamedTuple):
    """Test images, their pixels in [0, 1], and the question why they are in the class that the network predicts."""

    raw: np.ndarray
    question: Question


def build(config: Config, spec: DataSpec) -> System:
    """Attributions one after another, then what single layers see, then images that are found by descent."""
    source = make_source(config, spec)
    network = visualize.network(source.model, spec.shape, config.layer, config.patch_layer)
    standard = Standardize(source.spec.mean, source.spec.std)
    for name in config.methods:
        check_name("method", name, METHODS)
    if min(config.images, config.measured) < 1:
        raise ValueError(f"images and measured must be at least 1, got {config.images} and {config.measured}")
    layers = {name: visualize.layers_of(name, network.stages) for name in config.methods if name != "random"}
    settings, black = make_settings(config, network, source.spec), standard(jnp.zeros(spec.shape))

    def asked(data: Data, results: Results, rows: np.ndarray) -> Shown:
        params, state = source.view(results)
        raw = scale(jnp.asarray(data.test.read(rows)["image"]), spec.levels)
        x = standard(raw)
        target = jax.jit(lambda x: network.model.apply(params, state, x)[0].argmax(-1))(x)
        return Shown(np.asarray(raw), Question(network.model, params, state, x, target))

    def attribute(key: Key, data: Data, results: Results, name: str) -> Findings:
        shown = asked(data, results, one_of_each(data.test, config.images))
        if name == "images":
            return Findings({"images": shown.raw, "predicted": np.asarray(shown.question.target)})
        measured = asked(data, results, np.arange(min(config.measured, data.test.size)))
        options = {"groups": network.groups, "curve_steps": config.curve_steps, "baseline": black, "key": key}
        return Findings(compared(name, shown.question, measured.question, settings, **options))

    def explain(key: Key, data: Data, results: Results, name: str) -> Findings:
        shown = asked(data, results, one_of_each(data.test, config.images))
        if name == "images":
            return Findings({"images": shown.raw, "answers": visualize.answers(shown.question)})
        options = {"layers": network.stages, "baseline": black, "key": key}
        return Findings({"maps": visualize.by_class(name, shown.question, settings, spec.classes, **options)})

    def look(key: Key, data: Data, results: Results) -> Findings:
        return inside(network, asked(data, results, one_of_each(data.test, config.images)), data, standard, key)

    def find(key: Key, data: Data, results: Results, cell: str) -> Findings:
        shown = asked(data, results, one_of_each(data.test, config.images))
        return found_images(config, network, shown, spec, standard, cell, key)

    needs = {} if config.source else {"classifier": RunSpec("classify", config.classifier)}
    used = tuple(needs)
    stages = {
        "attributions": Study(
            attribute,
            lambda arrays: measures({name: arrays[name] for name in config.methods}),
            lambda arrays: figures.attributions(arrays, config.methods, SIGNED, spec.class_names, network.groups),
            uses=used,
            cells=("images", *config.methods),
        ),
        "by_class": Study(
            explain,
            panels=lambda arrays: {"explorer": figures.explorer(arrays, layers, SIGNED, spec.class_names)},
            uses=used,
            cells=("images", *layers),
        ),
        "layers": Study(look, uses=used),
        "pictures": Study(
            find,
            lambda arrays: {f"inverted_{path}": float(arrays[path]["distance"]) for path in network.stages},
            lambda arrays: figures.found(arrays, network.stages, PRICES, spec.class_names),
            uses=used,
            cells=("classes", *network.stages),
        ),
    }
    return System(stages, needs)


def inside(network: visualize.Network, shown: Shown, data: Data, standard: Standardize, key: Key) -> Findings:
    """Filters of the first layer, outputs of every stage, and the strongest patches of some channels."""
    (net, x), spec, path = (shown.question[:3], shown.question.x), data.spec, network.patch_layer
    chunks = np.array_split(np.arange(data.test.size), -(-data.test.size // BATCH))
    batches = (standard(scale(jnp.asarray(data.test.read(rows)["image"]), spec.levels)) for rows in chunks)
    top = visualize.top_patches(*net, batches, path, count=min(8, data.test.size))
    channels = np.argsort(-top.values[:, 0])[:: max(1, len(top.values) // 8)][:8]
    images = np.stack([data.test.read(rows)["image"] for rows in top.images[channels]]) / (spec.levels - 1)
    boxes = visualize.boxes(*net, spec.shape, path, top.sites[channels], key=key)
    kernel = np.asarray(visualize.filters(dict(named_leaves(net[1]))[network.kernel]))
    kernel = kernel if kernel.shape[-1] == 3 else kernel[..., :1]
    maps = {path: visualize.feature_maps(*net, x[:1], path)[0] for path in network.stages}
    strong = {path: np.asarray(visualize.strongest(outputs, 12)) for path, outputs in maps.items()}
    return Findings(
        {"values": top.values[channels], "rows": top.images[channels], "boxes": boxes},
        {
            "filters": panel("images.sheet", kernel, 8, network.kernel),
            "feature_maps": panel("maps.channels", shown.raw[0], strong),
            "patches": panel("maps.places", images, boxes, [f"channel {c}" for c in channels], f"places of {path}"),
        },
    )


def found_images(
    config: Config, network: visualize.Network, shown: Shown, spec: DataSpec, standard: Standardize, cell: str, key: Key
) -> Findings:
    """Images that the classes answer to most, or what the stage `cell` keeps of the images that are shown."""
    net, x = shown.question[:3], shown.question.x
    options = {"picture": Picture(spec.shape), "prepare": standard, "key": key, "steps": config.descent}
    if cell == "classes":
        classes = jnp.arange(min(spec.classes, 10))
        best = [visualize.maximize(*net, classes, variation=price, jitter=1, **options) for price in PRICES]
        return Findings({"images": np.stack([found.images for found in best]), "shown": shown.raw})
    kept = visualize.feature_maps(*net, x, cell)
    images = visualize.invert(*net, kept, cell, **options)
    return Findings(
        {"images": images, "distance": visualize.distance(*net, kept, cell, images, prepare=standard).mean()}
    )
