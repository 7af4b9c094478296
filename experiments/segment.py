"""Segmentation: a U-Net that names every pixel (lecture 25).

./launch/local.sh train --experiment=segment --data=digits
./launch/local.sh train --experiment=segment --data=fashion_mnist
./launch/local.sh train --experiment=segment --data=segments:DIR --set=loss=ce+dice

Labelled images are composed into pictures with exact masks, several objects on a cluttered canvas, those behind partly
hidden: anew for every training step, and fixed by row for validation and test, with objects of those splits alone.
`segments:DIR` has images and masks of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import evaluation, losses
from dlcore.data import IGNORED, Data, DataSpec, random_flip, scale, scenes_of_batch, standardize, with_scenes
from dlcore.networks import UNet
from dlcore.nn import padded
from dlcore.optim import OptimizerConfig
from dlcore.report.panel import panel
from dlcore.setting import number
from dlcore.train import Findings, LoopConfig, Result, Results, Study, System, budget, fit_model, map_split
from dlcore.types import Aux, Batch, Key, Mean, Model, Params, State

PRESETS = ("smoke", "default", "full")
GROUND = "ground"


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    loss: str = "ce"
    """A sum of "ce" (cross-entropy per pixel), "dice", "focal" and "lovasz", such as "ce+dice"; over all pixels of the
    batch as one set."""
    class_weights: tuple[float, ...] = ()
    """Weights of the classes in "ce" and "focal", the ground first; empty for equal ones."""
    gamma: float = 2.0
    """Of the focal loss."""
    widths: tuple[int, ...] = (16, 32, 64)
    """Channels by resolution, each half of the one before."""
    blocks: int = 1
    patch: int = 1
    """Pixels each way that make one position at the start."""
    dropout: float = 0.0
    canvas: int = 64
    """Side of a composed picture."""
    enlarge: int = 1
    """How many times as large objects are drawn in a composed picture."""
    objects: int = 3
    """Of a composed picture at most."""
    visible: float = 0.75
    """The least share of an object that those before it leave to be seen in a composed picture."""
    opaque: float = 1 / 16
    """Of the brightest level: pixels of an object that are brighter cover what lies behind it in a composed picture."""
    flip: bool = False
    """Augmentation: random horizontal flips of picture and mask."""
    tolerance: float = 1.0
    """Pixels by which a boundary may be missed."""
    ema: float = 0.0
    """Decay of the moving average that is evaluated; 0 keeps none."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    small = max(spec.shape[:2]) <= 16 and not spec.mask_classes
    optimizer = OptimizerConfig(
        name="adamw", learning_rate=3e-3, schedule="cosine", warmup_steps=20, epsilon=1e-6, weight_decay=0.01
    )
    steps, every = (1_500, 250) if spec.mask_classes else (3_500, 500)
    train = replace(budget(spec.sizes[0], batch_size=32, steps=steps, every=every), eval_batch_size=100)
    base = Config(ema=0.98, optimizer=optimizer, train=train)
    if not spec.mask_classes:
        # Objects of about 28 pixels on 64, or on more than twice the side of larger ones.
        enlarge = max(1, 28 // max(spec.shape[:2]))
        canvas = max(64, -(-9 * max(spec.shape[:2]) // 32) * 8)
        base = replace(base, loss="ce+dice", patch=2, widths=(32, 64, 96), flip=not small)
        # Where interpolation makes them larger, dark pixels around bright ones are its own.
        base = replace(base, canvas=canvas, enlarge=enlarge, opaque=0.25 if enlarge > 1 else base.opaque)
    if name == "smoke":
        return replace(base, widths=(8, 16) if small else (16, 32), train=train.scaled(1 / 20, every=1 / 5))
    if name == "full":
        return replace(
            base, widths=tuple(2 * w for w in base.widths), blocks=2, ema=0.999, train=train.scaled(4, every=4)
        )
    return base


def class_names(spec: DataSpec) -> tuple[str, ...]:
    """The classes of pixels: those of the masks, or the ground and the objects that are composed."""
    if spec.mask_classes:
        return spec.class_names
    if not spec.classes or len(spec.shape) != 3:
        raise ValueError(
            f"segment needs images with masks or labelled images, and {spec.name} has neither; use digits, for instance"
        )
    return (GROUND, *spec.class_names)


def make_model(config: Config, spec: DataSpec) -> Model:
    """The U-Net for pictures of any sides."""
    if not config.widths:
        raise ValueError("widths are empty; give the channels of at least one resolution, such as 16,32")
    unet = UNet(len(class_names(spec)), config.widths, blocks=config.blocks, patch=config.patch, dropout=config.dropout)
    return padded(unet, config.patch * 2 ** (len(config.widths) - 1))


def scenes(config: Config) -> dict[str, Any]:
    """What composed pictures are made of."""
    names = ("objects", "enlarge", "visible", "opaque")
    return {"side": config.canvas} | {name: getattr(config, name) for name in names}


def make_preprocess(config: Config, spec: DataSpec) -> Any:
    """Standardised pictures `image` and masks `mask`; objects without a mask are composed into pictures first."""
    if not spec.mask_classes and config.canvas < config.enlarge * max(spec.shape[:2]):
        raise ValueError(
            f"canvas={config.canvas} is smaller than the objects, {spec.shape[:2]} enlarged {config.enlarge} times; "
            "make it larger"
        )
    for name in ("objects", "enlarge"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")
    number(config.visible, "visible", "[0, 1]")
    number(config.opaque, "opaque", "[0, 1)")
    composed = scenes(config) | {"levels": spec.levels}

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        # Pictures that are evaluated are fixed; those of the training split, which nothing fixes, by one key.
        key = jax.random.key(0) if key is None else key
        image, mask = batch["image"], batch.get("mask")
        if mask is None:
            image, mask = scenes_of_batch(jax.random.fold_in(key, 0), image, batch["label"], **composed)
        x = standardize(scale(image, spec.levels), spec.mean, spec.std)
        if train and config.flip:
            both = jnp.concatenate([x, mask[..., None].astype(x.dtype)], -1)
            both = random_flip(jax.random.fold_in(key, 1), both)
            x, mask = both[..., :-1], both[..., -1]
        return {**batch, "image": x, "mask": mask.astype(jnp.int32)}

    return preprocess


def build(config: Config, spec: DataSpec) -> System:
    """Compose network, loss, optimiser, metrics from one confusion matrix, and figures."""
    model, preprocess, names = make_model(config, spec), make_preprocess(config, spec), class_names(spec)
    sides = spec.shape[:2] if spec.mask_classes else (config.canvas, config.canvas)
    picture = jax.ShapeDtypeStruct((1, *sides, spec.shape[2]), jnp.float32)
    options = {"class_weights": config.class_weights, "gamma": config.gamma, "ignore": IGNORED}
    loss = losses.segmentation(config.loss, len(names), **options)

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: jax.Array | None = None
    ) -> tuple[jax.Array, Aux]:
        logits, state = model.apply(params, state, batch["image"], train=train, key=key)
        value = loss(logits, batch["mask"])
        return value, Aux(state, {"loss": Mean(value, jnp.int32(1))})

    def predict(params: Params, state: State, images: jax.Array) -> jax.Array:
        return model.apply(params, state, images)[0]

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Mapping[str, Any]:
        labels = batch["mask"]
        where = jnp.broadcast_to(batch["where"][:, None, None], labels.shape)
        logits, options = predict(params, state, batch["image"]), {"where": where, "tolerance": config.tolerance}
        return evaluation.segmentation_sums(logits, labels, ignore=IGNORED, **options)

    def pictures(data: Data) -> Data:
        return data if spec.mask_classes else with_scenes(data, **scenes(config))

    fit = fit_model(
        model,
        objective,
        config,
        spec,
        shape=picture.shape[1:],
        ema=config.ema,
        preprocess=preprocess,
        evaluate=evaluate,
        summarize=evaluation.segmentation_summary,
        monitor=("miou", "max"),
        data=lambda data, results: pictures(data),
    )

    def look(key: Key, data: Data, results: Results) -> Findings:
        return draw(predict, preprocess, results["unet"], pictures(data), names)

    masks = Study(look, lambda arrays: evaluation.iou_by_name(arrays["confusion"], names), uses=("unet",), beside=True)
    told = ("miou", "pixel_accuracy", "boundary_f")
    return System({"unet": fit, "masks": masks}, functions={"predict": predict}, headline=told)


def draw(predict: Any, preprocess: Any, trained: Result, data: Data, names: tuple[str, ...]) -> Findings:
    """The first and the worst test pictures with their masks, and IoU by class."""

    def masks_of(batch: Batch) -> dict[str, jax.Array]:
        seen = preprocess(batch, key=None, train=False)
        predicted, truth = predict(trained.params, trained.state, seen["image"]).argmax(-1), seen["mask"]
        score = evaluation.image_iou(predicted, truth, len(names), ignore=IGNORED)
        each = jax.vmap(lambda p, t: evaluation.confusion_matrix(p, t, len(names), ignore=IGNORED))(predicted, truth)
        return {"predicted": predicted.astype(jnp.uint8), "score": score, "confusion": each}

    found = map_split(masks_of, data.test, 100)
    confusion = found["confusion"].sum(0, dtype=np.int64)
    order = np.argsort(np.where(np.isfinite(found["score"]), found["score"], 2))

    def shown(rows: np.ndarray, title: str) -> Any:
        read = data.test.read(rows)
        images, predicted = read["image"] / (data.spec.levels - 1), found["predicted"][rows]
        return panel("segmentation.examples", images, read["mask"], predicted, names, found["score"][rows], title)

    ious, mean = np.asarray(evaluation.iou(confusion)), float(evaluation.mean_iou(confusion))
    panels = {
        "examples": shown(np.arange(min(8, data.test.size)), "the first test pictures"),
        "worst": shown(order[:8], "the test pictures with the lowest IoU"),
        "iou": panel("segmentation.by_class", ious, names, mean),
    }
    return Findings({"confusion": confusion}, panels)
