"""Looking inside a trained classifier: attributions side by side and measured, what layers see and keep (lecture 17).

./launch/local.sh train --experiment=visualize --data=digits
./launch/local.sh train --experiment=visualize --data=fashion_mnist
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import visualize
from dlcore.data import Data, DataSpec, Standardize, scale
from dlcore.lookup import check_name
from dlcore.report.panel import panel
from dlcore.train import Findings, Results, RunSpec, Study, System, one_of_each
from dlcore.tree import named_leaves
from dlcore.types import Key, Model
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


class Network(NamedTuple):
    """The classifier as it was built, and which of its parts are looked at."""

    model: Model
    layer: str
    patch_layer: str
    stages: tuple[str, ...]
    """Parts with places, in the order of their calls."""
    kernel: str
    groups: tuple[str, ...]
    """Parts with params, the last one first."""


def make_network(config: Config, spec: DataSpec) -> Network:
    """The network of the classifier's preset. Raises `ValueError` for one without places, and for unknown layers."""
    check_name("preset of classify", config.classifier, classify.PRESETS)
    model = classify.make_model(classify.preset(config.classifier, spec), spec)
    image = jax.ShapeDtypeStruct((1, *spec.shape), jnp.float32)
    params, state = jax.eval_shape(model.init, jax.random.key(0), image)
    shapes = visualize.paths(model, params, state, image)
    stages, kernel = visualize.spatial(shapes), visualize.first_kernel(params, shapes)
    if not stages or kernel is None:
        raise ValueError(f"visualize: classifier={config.classifier} has no convolutions; use one of a CNN, as default")
    layer, patch_layer = config.layer or stages[-1], config.patch_layer or stages[len(stages) // 2]
    for path in (layer, patch_layer):
        check_name("layer with places", path, [path for path, shape in shapes.items() if len(shape) == 4])
    groups = tuple(name for name in reversed(model.apply.parts) if name in params)
    return Network(model, layer, patch_layer, tuple(stages), kernel, groups)


def make_settings(config: Config, network: Network, spec: DataSpec) -> Settings:
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
    network, standard = make_network(config, spec), Standardize(spec.mean, spec.std)
    for name in config.methods:
        check_name("method", name, METHODS)
    if min(config.images, config.measured) < 1:
        raise ValueError(f"images and measured must be at least 1, got {config.images} and {config.measured}")
    settings, black = make_settings(config, network, spec), standard(jnp.zeros(spec.shape))

    def asked(data: Data, results: Results, rows: np.ndarray) -> Shown:
        trained = results["classifier"]
        params, state = (jax.tree.map(jnp.asarray, tree) for tree in (trained.params, trained.state))
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

    def look(key: Key, data: Data, results: Results) -> Findings:
        return inside(network, asked(data, results, one_of_each(data.test, config.images)), data, standard, key)

    def find(key: Key, data: Data, results: Results, cell: str) -> Findings:
        shown = asked(data, results, one_of_each(data.test, config.images))
        return found_images(config, network, shown, spec, standard, cell, key)

    stages = {
        "attributions": Study(
            attribute,
            lambda arrays: measures({name: arrays[name] for name in config.methods}),
            lambda arrays: draw(config, network, spec, arrays),
            uses=("classifier",),
            cells=("images", *config.methods),
        ),
        "layers": Study(look, uses=("classifier",)),
        "pictures": Study(
            find,
            lambda arrays: {f"inverted_{path}": float(arrays[path]["distance"]) for path in network.stages},
            lambda arrays: draw_found(network, spec, arrays),
            uses=("classifier",),
            cells=("classes", *network.stages),
        ),
    }
    return System(stages, {"classifier": RunSpec("classify", config.classifier)})


def draw(config: Config, network: Network, spec: DataSpec, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the attributions."""
    shown, names = arrays["images"], [name for name in config.methods if name != "random"]
    titles = [spec.class_names[k] for k in shown["predicted"]]
    of = lambda what, names=config.methods: {name: arrays[name][what] for name in names}  # noqa: E731
    return {
        "attributions": panel("maps.attributions", shown["images"], of("maps", names), SIGNED, titles),
        "curves": panel("maps.curves", of("deletion"), of("insertion")),
        "forgetting": panel("maps.forgetting", network.groups, of("kept")),
    }


def inside(network: Network, shown: Shown, data: Data, standard: Standardize, key: Key) -> Findings:
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
    config: Config, network: Network, shown: Shown, spec: DataSpec, standard: Standardize, cell: str, key: Key
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


def draw_found(network: Network, spec: DataSpec, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the images that were found by descent."""
    classes = [(f"TV × {price:g}", images) for price, images in zip(PRICES, arrays["classes"]["images"], strict=True)]
    rows = [("image", arrays["classes"]["shown"]), *((path, arrays[path]["images"]) for path in network.stages)]
    return {
        "classes": panel("images.rows", classes, ", ".join(spec.class_names[:10])),
        "inverted": panel("images.rows", rows, "what is left of an image behind each stage"),
    }
