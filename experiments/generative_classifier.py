"""Generative classifiers: densities of the classes and Bayes' rule against a discriminative network (lecture 22).

./launch/local.sh train --experiment=generative_classifier --data=digits
./launch/local.sh train --experiment=generative_classifier --data=fashion_mnist --set=density=pixelcnn

Gaussian naive Bayes, LDA and QDA in closed form (shrinkage chosen on the validation split), and a conditional VAE, flow
or PixelCNN. `accuracy`, `nll_nats` and `ece` are those of p(y|x), `bits_per_dim` that of p(x) = Σ_y p(x|y) p(y), or of
p(x|y) by `bits_per_dim_given_label`. Missing pixels are integrated out by the Gaussians and the VAE; the others see the mean image there.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.data.preprocess import row_keys
from dlcore.data.source import Data, DataSpec, Split
from dlcore.evaluation import metrics
from dlcore.evaluation.likelihood import Nats, bits_per_dim, summary
from dlcore.generative import class_density, classifier, decoder, gaussian_images, gaussian_study, vae
from dlcore.generative.class_density import ClassDensity
from dlcore.generative.flow.chain import chain
from dlcore.generative.flow.networks import Glow
from dlcore.generative.flow.pixels import Logit
from dlcore.losses.classification import softmax_cross_entropy
from dlcore.losses.supervised import supervised
from dlcore.networks.autoencoder import MLPDecoder, MLPEncoder
from dlcore.networks.beside import Beside
from dlcore.networks.conditioner import ConvConditioner
from dlcore.networks.mlp import MLP
from dlcore.networks.pixelcnn import GatedPixelCNN
from dlcore.optim.build import OptimizerConfig
from dlcore.optim.build import build as build_optimizer
from dlcore.report.panel import panel
from dlcore.studies.few_labels import balanced, learner
from dlcore.studies.judges import cost, scores, verdicts, whole
from dlcore.studies.robustness import mean_image, robustness
from dlcore.train.builders import classification_summary, classification_sums, fit_by_gradient, standardized
from dlcore.train.config import FEW, LoopConfig, budget
from dlcore.train.quality import image_baselines
from dlcore.train.system import Findings, Fit, Results, Study, System, likelihood
from dlcore.types import Batch, Key, Mean, Params, State

PRESETS = ("smoke", "default", "full")
SHRINKAGES = (1e-3, 1e-2, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    density: str = "vae"
    """"vae", "flow" or "pixelcnn": what gives p(x|y) beside the Gaussians."""
    widths: tuple[int, ...] = (256, 256)
    """Hidden widths of the VAE's encoder; for the flow channels of the conditioners, one number per scale."""
    latent: int = 16
    """Code of the VAE."""
    samples: int = 100
    """Codes per image and class in the test."""
    few_samples: int = 10
    """Codes per image and class on the validation split, and in the studies."""
    steps: int = 4
    """Steps of the flow per scale."""
    features: int = 32
    """Channels of the PixelCNN."""
    windows: tuple[int, ...] = (5, 3, 3)
    """Windows of its layers."""
    hidden: tuple[int, ...] = (256,)
    """Hidden widths of the discriminative network."""
    labels: tuple[int, ...] = (20, 50, 100, 300, 1000)
    """Numbers of labelled images in the learning curves; the whole training split is added."""
    few_steps: int = 600
    """Steps of each training in the learning curves."""
    fractions: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
    """Fractions of missing pixels."""
    noises: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.5)
    """Standard deviations of noise, pixels in [0, 1]."""
    judged: int = 1000
    """Test images in the studies of labels and of damage."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    few = spec.sizes[0] < FEW
    optimizer = OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=1.0 if few else 0.01, schedule="cosine")
    loop = functools.partial(budget, spec.sizes[0], batch_size=64, restore_best=few)
    base = Config(optimizer=optimizer, train=loop(steps=7_800, every=1_950), latent=32, samples=50)
    if max(spec.shape[:2]) <= 16:
        base = replace(base, latent=16, samples=100, train=loop(steps=3_800, every=380))
    if name == "smoke":
        brief = {"labels": (50,), "few_steps": 150, "fractions": (0.0, 0.4, 0.8), "noises": (0.0, 0.3), "judged": 200}
        return replace(base, samples=10, few_samples=5, train=base.train.scaled(1 / 8), **brief)
    if name == "full":
        return replace(base, samples=500, judged=5_000, few_steps=3_000, train=base.train.scaled(4))
    return base


def make_density(config: Config, spec: DataSpec, samples: int) -> ClassDensity:
    """The class-conditional density that `config` names."""
    if len(spec.shape) != 3 or spec.levels is None or not spec.classes:
        raise ValueError(f"generative_classifier needs labelled images, not {spec.name}; use digits, for instance")
    few = spec.levels <= decoder.FEW_LEVELS
    head = decoder.categorical(spec.levels) if few else decoder.discretized_logistic(spec.levels, 5)

    def of_vae() -> ClassDensity:
        outputs = (*spec.shape[:2], head.per_pixel(spec.shape[2]))
        encoder, decode = MLPEncoder(config.widths, 2 * config.latent), MLPDecoder(config.widths[::-1], outputs)
        system = vae.VAE(Beside(encoder), Beside(decode), head)
        return class_density.of_vae(system, config.latent, spec.classes, spec.levels, samples=samples)

    def of_flow() -> ClassDensity:
        def network(shape: Any, outputs: int) -> Any:
            return ConvConditioner(config.features, outputs, activation="silu", conditional=True)

        body = Glow(spec.shape, network, scales=2, steps=config.steps, factor_out=False, conditional=True)
        return class_density.of_flow(chain(logit=Logit(0.01), body=body), spec.shape, spec.classes, spec.levels)

    def of_pixelcnn() -> ClassDensity:
        options = {"colours": spec.shape[-1], "features": config.features, "windows": config.windows}
        network = GatedPixelCNN(head.channels, classes=spec.classes, **options)
        return class_density.of_pixelcnn(network, network.model, head, spec.shape, spec.levels)

    makers = {"vae": of_vae, "flow": of_flow, "pixelcnn": of_pixelcnn}
    if config.density not in makers:
        raise ValueError(f"density must be one of {', '.join(makers)}, got {config.density!r}")
    return makers[config.density]()


def build(config: Config, spec: DataSpec) -> System:
    """Compose the Gaussians, both fits, the studies of labels and damage, and figures."""
    density, quick = (
        class_density.with_prior(make_density(config, spec, n), spec.classes)
        for n in (config.samples, config.few_samples)
    )
    network, dims, prepared = MLP(config.hidden, spec.classes), math.prod(spec.shape), standardized(spec)

    def discriminate(params: Params, state: State, x: Any) -> jax.Array:
        inputs = prepared({"image": x}, key=None, train=False)["x"]
        return jax.nn.log_softmax(network.apply(params, state, inputs)[0])

    def counted(density: ClassDensity, params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        x, where, keys = batch["image"], batch["where"], row_keys(key, batch["row"])
        posterior, given = class_density.predict(density, params, state, x, keys, state["log_prior"])
        own = jnp.take_along_axis(given, batch["label"][:, None].astype(jnp.int32), axis=1)[:, 0]
        sums = classification_sums(posterior.log_posterior, batch["label"], where)
        return {**sums, "nats": Nats.of(-posterior.log_evidence, where), "given": Mean.of(-own, where)}

    def summarize(sums: Mapping[str, Any]) -> dict[str, float]:
        ruler = {k: v for k, v in summary(sums["nats"], dims).items() if "bits" in k}
        given = bits_per_dim(float(sums["given"].value()), dims)
        return {**classification_summary(sums), **ruler, "bits_per_dim_given_label": given}

    @functools.partial(jax.jit, static_argnums=3)
    def sample(params: Params, state: State, key: Key, num: int, label: Any = None) -> jax.Array:
        draw = lambda key, labels: density.draw(key, params, state, labels)  # noqa: E731
        if label is not None:
            return draw(key, jnp.full(num, label))
        return classifier.sample(key, state["log_prior"], draw, num)[0]

    objective, shared = (
        supervised(network, softmax_cross_entropy, inputs="x"),
        (config.train, config.optimizer, spec.sizes[0]),
    )
    discriminative = fit_by_gradient(
        objective,
        *shared,
        init=lambda key, batch: network.init(key, batch["x"]),
        preprocess=prepared,
        evaluate=lambda p, s, b, key: classification_sums(discriminate(p, s, b["image"]), b["label"], b["where"]),
        summarize=lambda sums: {f"{k}_discriminative": v for k, v in classification_summary(sums).items()},
        monitor=("nll_nats_discriminative", "min"),
    )
    fit = fit_by_gradient(
        density.objective,
        *shared,
        init=density.init,
        preprocess=lambda batch, *, key, train: batch,
        start=lambda params, state, results: (params, {**state, "log_prior": results["gaussian"].arrays["log_prior"]}),
        uses=("gaussian",),
        evaluate=functools.partial(counted, quick),
        evaluate_test=functools.partial(counted, density),
        summarize=summarize,
        monitor=("bits_per_dim", "min"),
        ruler=likelihood(density.kind),
        sample=sample,
        sample_options=("label",),
    )
    counts = (*(n for n in config.labels if n < spec.sizes[0]), spec.sizes[0])
    uses = ("gaussian", "discriminative", "density")
    judged = functools.partial(judges, config, spec, quick, discriminate)
    learners = make_learners(config, quick, discriminative, objective, discriminate)

    def learn(key: Key, data: Data, results: Results, cell: str) -> Findings:
        rows, held, test = data.train.all(), held_out(data), some(data.test, config.judged)
        chosen = balanced(rows["label"], int(cell.removeprefix("n")))
        where = np.isin(np.arange(len(rows["label"])), chosen)
        models, _ = gaussian_images.choose(rows, held, spec.classes, spec.levels, SHRINKAGES, where=where)
        found = {k: np.asarray(gaussian_images.posterior_of(m, test["image"], spec.levels)) for k, m in models.items()}
        found |= {name: learner(key, rows, held, chosen, test["image"]) for name, learner in learners.items()}
        return Findings({name: np.asarray(scores(posterior, test["label"])) for name, posterior in found.items()})

    def fitted(key: Key, data: Data, results: Results) -> Findings:
        rows = data.train.all(), held_out(data), data.test.all()
        return Findings(gaussian_study.study(*rows, spec.classes, spec.levels, SHRINKAGES))

    def damaged(key: Key, data: Data, results: Results) -> Findings:
        rows, fill = some(data.test, config.judged), mean_image(data.train.all()["image"])
        damage = {"fractions": config.fractions, "stds": config.noises}
        args = rows["image"], rows["label"], fill, spec.levels
        return Findings({name: robustness(key, one, *args, **damage) for name, one in judged(results).items()})

    stages: dict[str, Fit | Study] = {
        "gaussian": Study(fitted, gaussian_study.named_metrics),
        "discriminative": discriminative,
        "density": fit,
        "labels": Study(learn, panels=draw_labels, cells=tuple(f"n{count}" for count in counts)),
        "damage": Study(damaged, panels=functools.partial(draw_damage, config, spec), uses=uses),
        "baselines": Study(lambda key, data, results: Findings(image_baselines(data)), dict, beside=True),
        "gallery": Study(
            lambda key, data, results: look(spec, judged(results), density, data, results),
            costs,
            uses=uses,
            beside=True,
        ),
    }
    return System(stages, functions={"predict": functools.partial(predict, quick)})


def some(split: Split, most: int) -> Mapping[str, np.ndarray]:
    """The first rows of a split."""
    return split.read(np.arange(min(most, split.size)))


def held_out(data: Data) -> Mapping[str, np.ndarray]:
    """What chooses models in the studies: validation images, or training images where there are none."""
    return some(data.validation if data.validation.size else data.train, 2000)


def predict(density: ClassDensity, params: Params, state: State, images: Any) -> jax.Array:
    """log p(y|x) [b, classes] of grey levels."""
    return class_density.judge(density, params, state, jax.random.key(0))(images, whole(images))


def judges(
    config: Config, spec: DataSpec, density: ClassDensity, discriminate: Any, results: Results
) -> dict[str, Any]:
    """Every trained model as a judge of images, see `dlcore.studies.judges`."""

    def gaussian(name: str) -> Any:
        model = gaussian_images.restored(results["gaussian"].arrays["models"][name])
        return lambda x, observed: gaussian_images.posterior_of(model, x, spec.levels, observed)

    network, trained = results["discriminative"], results["density"]
    found = {name: gaussian(name) for name in gaussian_images.MODELS}
    found["discriminative"] = lambda x, observed: discriminate(network.params, network.state, x)
    found[config.density] = class_density.judge(density, trained.params, trained.state, jax.random.key(0))
    return found


def make_learners(config: Config, density: ClassDensity, fit: Fit, objective: Any, discriminate: Any) -> dict[str, Any]:
    """Both networks, to learn from few labels."""
    options = {"batch_size": config.train.batch_size, "steps": config.few_steps}
    tx = build_optimizer(config.optimizer, config.few_steps)

    def prepared(batch: Batch) -> Batch:
        return fit.preprocess(batch, key=None, train=False)

    def loss(params: Params, state: State, batch: Batch, **keywords: Any) -> Any:
        return objective(params, state, prepared(batch), **keywords)

    start = lambda key, batch: fit.init(key, prepared(batch))  # noqa: E731
    network = learner(loss, start, discriminate, tx, **options)
    judged = functools.partial(predict, density)
    return {"discriminative": network, config.density: learner(density.objective, density.init, judged, tx, **options)}


def draw_labels(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Error and nats against the number of labels."""
    counts, names = [int(cell.removeprefix("n")) for cell in arrays], next(iter(arrays.values()))
    found = {name: np.stack([arrays[cell][name] for cell in arrays]) for name in names}
    error, nats = ({name: f(v) for name, v in found.items()} for f in (lambda v: 1 - v[:, 0], lambda v: v[:, 1]))
    return {"learning_curves": panel("classifiers.learning_curves", counts, error, nats)}


def draw_damage(config: Config, spec: DataSpec, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy against the share of missing pixels and the noise."""
    missing, noise = ({name: v[kind][:, 0] for name, v in arrays.items()} for kind in ("missing", "noise"))
    curves = (config.fractions, missing, config.noises, noise, 1 / spec.classes)
    return {"robustness": panel("classifiers.robustness", *curves)}


def look(spec: DataSpec, judged: Mapping[str, Any], density: ClassDensity, data: Data, results: Results) -> Findings:
    """Samples of every class, calibration, and what an image costs."""
    rows, trained, key, ten = some(data.test, 5000), results["density"], jax.random.key(0), min(spec.classes, 10)
    bins = {}
    for name, judge in judged.items():
        probabilities = np.exp(verdicts(judge, rows["image"]))
        bins[name] = tuple(map(np.asarray, jax.jit(metrics.calibration)(probabilities, rows["label"])))
    labels = np.repeat(np.arange(ten), 10)
    images = np.asarray(jax.jit(density.draw)(key, trained.params, trained.state, labels))
    lines = [(spec.class_names[c], images[labels == c]) for c in range(ten)]
    models = {name: gaussian_images.restored(v) for name, v in results["gaussian"].arrays["models"].items()}
    drawn = {k: gaussian_images.draw(key, m, np.arange(ten), spec.shape, spec.levels) for k, m in models.items()}
    panels = {
        "samples": panel("images.rows", lines, "x ~ p(x|y), a line for each class"),
        "samples_gaussian": panel("images.rows", [(k.replace("_", " "), np.asarray(v)) for k, v in drawn.items()]),
        "calibration": panel("classifiers.calibrations", bins),
    }
    return Findings({"timing": cost(judged, rows["image"])}, panels)


def costs(arrays: Mapping[str, Any]) -> dict[str, float]:
    """Microseconds per image of every judge."""
    return {f"microseconds_per_image_{name}": 1e6 * float(seconds) for name, seconds in arrays["timing"].items()}
