"""Image classification: a multi-layer perceptron, a small CNN or a published architecture (lecture 1, 8–16).

./launch/local.sh train --experiment=classify --data=digits
./launch/local.sh train --experiment=classify --data=fashion_mnist
./launch/local.sh train --experiment=classify --data=fashion_mnist --preset=mlp_full
./launch/local.sh train --experiment=classify --data=fashion_mnist --set=model=cifar_resnet20
./launch/local.sh train --experiment=classify --data=two_moons
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dlcore import evaluation, networks
from dlcore.data import Data, DataSpec
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.nn import in_precision
from dlcore.optim import OptimizerConfig
from dlcore.train import (
    LoopConfig,
    Result,
    System,
    augmented,
    budget,
    classified_by,
    decision_regions,
    features_and_logits,
    fit_model,
    gallery,
    mistakes,
    over_views,
)
from dlcore.types import Model
from experiments import _speed

PRESETS = ("smoke", "default", "full", "mlp", "mlp_full", "features", "speed94", "speed95", "speed96")
SEEDS = dict.fromkeys(_speed.RECIPES, _speed.SEEDS)
"""Those of `--seeds=registered`, by preset."""


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    model: str = "cnn"
    """"mlp", "cnn", or an architecture by name, such as "cifar_resnet20"; of the settings of the network down to
    dropout, those take none, and "whitened_cnn" and "whitened_resnet" the widths."""
    widths: tuple[int, ...] = ()
    """Hidden widths of the MLP, or channels of the CNN's stages; empty for the model's own."""
    hidden: int = 0
    """Width of the CNN's hidden dense layer; 0 pools globally."""
    activation: str = "silu"
    """Smooth by default: no rounding error can flip a decision, so that runs on any number of devices agree closely."""
    pool: str = "avg"
    """Pooling of the CNN: "avg", smooth as well, or "max"."""
    dropout: float = 0.0
    label_smoothing: float = 0.0
    shift: int = 0
    """Augmentation: random translations by up to so many pixels."""
    flip: bool = False
    """Augmentation: random horizontal flips."""
    rotation: float = 0.0
    """Augmentation: random rotations by up to so many degrees."""
    cutout: int = 0
    """Augmentation: a grey square of so many pixels."""
    mixup: float = 0.0
    """Augmentation: α of mixup; 0 for none."""
    cutmix: float = 0.0
    """Augmentation: α of cutmix; 0 for none."""
    crop: float = 0.0
    """Augmentation: a random part of at least this fraction of an image's area, enlarged; 0 for none."""
    test_flip: bool = False
    """Test-time augmentation: evaluation averages the probabilities of an image and its mirror image."""
    test_shift: int = 0
    """Test-time augmentation: and of the image moved by so many pixels in each of the four directions."""
    ema: float = 0.0
    """Decay of the moving average that is evaluated; 0 keeps none."""
    dtype: str = "float32"
    """Compute precision: "float32" or "bfloat16"; params are float32 in any case."""
    microbatches: int = 1
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`; pictures of clothes may be mirrored, digits may not."""
    if name in _speed.RECIPES:
        return _speed.recipe(name, Config(), spec)
    if len(spec.shape) == 1:
        return _for_points(spec.sizes[0])[name]
    return (_for_small if max(spec.shape[:2]) <= 16 else _for_large)(spec.sizes[0])[name]


def _for_small(examples: int) -> dict[str, Config]:
    """Presets for images of up to 16 pixels."""
    optimizer = OptimizerConfig(name="adamw", learning_rate=3e-3, schedule="cosine", epsilon=1e-6, weight_decay=0.01)
    train = budget(examples, batch_size=64, steps=1_520, every=190)
    cnn = Config(widths=(32, 64, 64), shift=1, optimizer=optimizer, train=train)
    mlp = Config("mlp", activation="relu", dropout=0.3, optimizer=replace(optimizer, learning_rate=1e-3), train=train)
    return {
        "smoke": replace(cnn, train=train.scaled(1 / 16, every=1 / 5)),
        "default": cnn,
        "full": replace(cnn, ema=0.999, train=train.scaled(3)),
        "mlp": mlp,
        "mlp_full": replace(mlp, ema=0.999, train=train.scaled(3)),
        "features": replace(cnn, train=train.scaled(3 / 8, every=0)),
    }


def _for_large(examples: int) -> dict[str, Config]:
    """Presets for larger images; the long ones average their predictions over views of an image."""
    optimizer = OptimizerConfig(
        name="adamw", learning_rate=2e-3, schedule="cosine", warmup_steps=100, epsilon=1e-6, weight_decay=0.02
    )
    train = budget(examples, batch_size=128, steps=4_290, every=429)
    cnn = Config(hidden=128, dropout=0.25, activation="relu", pool="max", flip=True, optimizer=optimizer, train=train)
    mlp = Config(
        "mlp",
        activation="relu",
        dropout=0.3,
        optimizer=replace(optimizer, weight_decay=0.1),
        train=budget(examples, batch_size=256, steps=5_350, every=214),
    )
    moved = {"shift": 1, "flip": True, "test_shift": 1, "test_flip": True}
    return {
        "smoke": replace(cnn, train=train.scaled(1 / 50, every=1 / 10)),
        "default": cnn,
        "full": replace(cnn, widths=(32, 64, 128), cutout=8, test_flip=True, train=train.scaled(2.5)),
        "mlp": mlp,
        "mlp_full": replace(mlp, widths=(1024, 512), dropout=0.0, **moved, train=mlp.train.scaled(2.4, every=5)),
        "features": replace(cnn, train=train.scaled(0.3, every=0)),
    }


def _for_points(examples: int) -> dict[str, Config]:
    """Presets for points: an MLP, whose decision regions are drawn in the plane."""
    optimizer = OptimizerConfig(name="adamw", learning_rate=3e-3, schedule="cosine", epsilon=1e-6, weight_decay=0.01)
    train = budget(examples, batch_size=128, steps=2_000, every=200)
    mlp = Config("mlp", (64, 64), optimizer=optimizer, train=train)
    longer = replace(mlp, widths=(256, 256), ema=0.999, train=train.scaled(3))
    short = replace(mlp, train=train.scaled(1 / 10, every=1 / 4))
    return {"smoke": short, "default": mlp, "full": longer, "mlp": mlp, "mlp_full": longer, "features": short}


def make_model(config: Config, spec: DataSpec) -> Model:
    """The network that `config` names, for images and classes like `spec`."""
    spec.need("classify", labels=True)
    if len(spec.shape) != 3 and config.model != "mlp":
        raise ValueError(f"model={config.model} needs images, and {spec.name} has points; use model=mlp")
    if config.model == "mlp":
        options = {"activation": config.activation, "dropout": config.dropout}
        model = networks.MLP(config.widths or (512, 256), spec.classes, **options)
    elif config.model == "cnn":
        widths = config.widths or (32, 64)
        _check_halving(spec.shape, len(widths) - (not config.hidden))
        options = {"hidden": config.hidden, "dropout": config.dropout, "pool": config.pool}
        model = networks.CNN(widths, spec.classes, activation=config.activation, **options)
    elif config.model in (others := ("whitened_cnn", "whitened_resnet")):
        widths, deep = config.widths or (64, 256, 256), config.model == "whitened_resnet"
        model = networks.WhitenedCNN(spec.classes, min(spec.shape[:2]), widths, deep=deep)
    else:
        model = networks.network(config.model, spec.classes, min(spec.shape[:2]), others=("mlp", "cnn", *others))
    return in_precision(model, config.dtype)


def _check_halving(shape: tuple[int, ...], times: int) -> None:
    if min(shape[:2]) < 2**times:
        sides = f"{shape[0]}×{shape[1]}"
        raise ValueError(f"model=cnn halves the sides {times} times, and images are {sides}; use fewer widths or mlp")


def make_preprocess(config: Config, spec: DataSpec) -> Any:
    """Pixels to standardised floats, with the augmentations of `config` in training; mixtures have a `target`."""
    options = {"shift": config.shift, "flip": config.flip, "rotation": config.rotation, "cut": config.cutout}
    return augmented(spec, **options, mix=config.mixup, cut_mix=config.cutmix, area=config.crop)


def build(config: Config, spec: DataSpec) -> System:
    """A classifier, and a look at its errors."""
    model, preprocess = make_model(config, spec), make_preprocess(config, spec)
    images, source = len(spec.shape) == 3, "image" if len(spec.shape) == 3 else "point"
    predict = over_views(model, shift=config.test_shift, flip=config.test_flip)

    def loss(logits: Any, labels: Any) -> Any:
        return softmax_cross_entropy(logits, labels, label_smoothing=config.label_smoothing)

    def accuracy(logits: Any, labels: Any) -> Any:
        return evaluation.correct(logits, labels if labels.ndim < logits.ndim else labels.argmax(-1))

    targets = "target" if config.mixup > 0 or config.cutmix > 0 else "label"
    objective = supervised(model, loss, {"accuracy": accuracy}, targets=targets)

    def summary(sums: Mapping[str, Any]) -> dict[str, float]:
        found = evaluation.classification_summary(sums)
        return {"accuracy": found["accuracy"], "error": 1 - found["accuracy"], **found}

    fit = fit_model(
        model,
        objective,
        config,
        spec,
        ema=config.ema,
        microbatches=config.microbatches,
        preprocess=preprocess,
        evaluate=classified_by(predict),
        summarize=summary,
        monitor=("nll_nats", "min"),
    )

    def look(trained: Result, data: Data) -> dict[str, Any]:
        seen = lambda x: preprocess({source: x}, key=None, train=False)["image"]  # noqa: E731
        logits = lambda x: predict(trained.params, trained.state, seen(x))  # noqa: E731
        return (mistakes if images else decision_regions)(logits, data)

    functions = {"predict": predict} | ({"features": features(config, spec)} if images else {})
    stages = {"classifier": fit, "errors": gallery("classifier", look)}
    return System(stages, {}, functions, ("accuracy", "nll_nats", "ece"), ("errors/regions", "errors/mistakes"))


def features(config: Config, spec: DataSpec) -> Any:
    """`(params, state, images uint8 [n, h, w, c]) -> (features [n, d], logits [n, classes])`.

    The features are the input of the last layer; the preset "features" is the classifier that measures samples by them.
    """
    return features_and_logits(make_model(config, spec), make_preprocess(config, spec))
