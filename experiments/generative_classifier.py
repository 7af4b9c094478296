"""Generative classifiers: densities of the classes and Bayes' rule, against a discriminative network (lecture 22).

./launch/local.sh train --experiment=generative_classifier --data=digits
./launch/local.sh train --experiment=generative_classifier --data=fashion_mnist --set=density=pixelcnn

Gaussian naive Bayes, LDA and QDA in closed form, shrinkage chosen on the validation split, and a conditional VAE, flow
or PixelCNN. `accuracy`, `nll_nats` and `ece` are those of p(y|x) of the latter, `bits_per_dim` that of its p(x) =
Σ_y p(x|y) p(y). Missing pixels are integrated out by the Gaussians and the VAE; the others see the mean image there.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from dlcore import report, studies, train
from dlcore.data import Data, DataSpec, row_keys
from dlcore.generative import class_density, decoder, flow, gaussian_images, gaussian_study, vae
from dlcore.generative.class_density import ClassDensity
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.networks import MLP, Beside, ConvConditioner, GatedPixelCNN, MLPDecoder, MLPEncoder
from dlcore.optim import OptimizerConfig, make_optimizer
from dlcore.report.panel import panel
from dlcore.train import Findings, LoopConfig, Results, Study, System
from dlcore.types import Key

PRESETS = ("smoke", "default", "full")
SHRINKAGES = (1e-3, 1e-2, 0.03, 0.1, 0.3, 0.5)


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    density: str = "vae"
    """"vae", "flow" or "pixelcnn": what gives p(x|y) beside the Gaussians."""
    widths: tuple[int, ...] = (256, 256)
    """Hidden widths of the VAE's encoder; the decoder has them in reverse."""
    latent: int = 16
    samples: int = 100
    """Codes of the VAE per image and class in the test."""
    study_samples: int = 10
    """Codes per image and class on the validation split, and in the studies."""
    steps: int = 4
    """Steps of the flow per scale."""
    features: int = 32
    """Channels of the flow's conditioners and of the PixelCNN."""
    windows: tuple[int, ...] = (5, 3, 3)
    """Windows of the PixelCNN's layers."""
    hidden: tuple[int, ...] = (256,)
    """Hidden widths of the discriminative network."""
    labels: tuple[int, ...] = (20, 50, 100, 300, 1000)
    """Numbers of labelled images in the learning curves; the whole training split is added."""
    study_steps: int = 1000
    """Steps of each training in the learning curves."""
    fractions: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9)
    """Fractions of missing pixels."""
    noises: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.5)
    """Standard deviations of noise, pixels in [0, 1]."""
    study_images: int = 1000
    """Test images in the studies of labels and of damage."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    few = spec.sizes[0] < train.FEW
    optimizer = OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=1.0 if few else 0.01, schedule="cosine")
    loop = functools.partial(train.budget, spec.sizes[0], batch_size=64, restore_best=few)
    # Every image is decoded for every class and code: with 256 grey levels that is what a run costs.
    base = Config(samples=20, study_samples=5, optimizer=optimizer, train=loop(steps=7_800, every=1_950), latent=32)
    if max(spec.shape[:2]) <= 16:
        base = replace(base, latent=16, samples=100, study_samples=10, train=loop(steps=3_800, every=380))
    if name == "smoke":
        brief = {"labels": (50,), "fractions": (0.0, 0.4, 0.8), "noises": (0.0, 0.3), "samples": base.samples // 10}
        brief |= {"study_steps": 150, "study_images": 200, "study_samples": 2}
        return replace(base, train=base.train.scaled(1 / 8, every=1 / 2), **brief)
    if name == "full":
        return replace(base, samples=500, study_images=5_000, study_steps=3_000, train=base.train.scaled(4))
    return base


def make_density(config: Config, spec: DataSpec, samples: int) -> ClassDensity:
    """The class-conditional density that `config` names, with the prior of the classes beside it."""
    spec.need("generative_classifier", images=True, labels=True)
    if samples < 1:
        raise ValueError(f"samples and study_samples must be at least 1, got {samples}")
    few = spec.levels <= decoder.FEW_LEVELS
    head = decoder.categorical(spec.levels) if few else decoder.discretized_logistic(spec.levels, 3)

    def of_vae() -> ClassDensity:
        outputs = (*spec.shape[:2], head.per_pixel(spec.shape[2]))
        encoder, decode = MLPEncoder(config.widths, 2 * config.latent), MLPDecoder(config.widths[::-1], outputs)
        system = vae.VAE(Beside(encoder), Beside(decode), head)
        return class_density.of_vae(system, config.latent, spec.classes, spec.levels, samples=samples)

    def of_flow() -> ClassDensity:
        options = {"activation": "silu", "conditional": True}
        network = lambda shape, outputs: ConvConditioner(config.features, outputs, **options)  # noqa: E731
        body = flow.Glow(spec.shape, network, scales=2, steps=config.steps, factor_out=False, conditional=True)
        whole = flow.chain(logit=flow.Logit(0.01), body=body)
        return class_density.of_flow(whole, spec.shape, spec.classes, spec.levels)

    def of_pixelcnn() -> ClassDensity:
        options = {"colours": spec.shape[-1], "features": config.features, "windows": config.windows}
        network = GatedPixelCNN(head.channels, classes=spec.classes, **options)
        return class_density.of_pixelcnn(network, network.model, head, spec.shape, spec.levels)

    makers = {"vae": of_vae, "flow": of_flow, "pixelcnn": of_pixelcnn}
    if config.density not in makers:
        raise ValueError(f"density must be one of {', '.join(makers)}, got {config.density!r}")
    return class_density.with_prior(makers[config.density](), spec.classes)


def make_fits(
    config: Config, spec: DataSpec, density: ClassDensity, quick: ClassDensity, discriminator: studies.Learner
) -> dict[str, train.Fit]:
    """The discriminative network, and the density, whose prior is how frequent the classes are."""
    shared = {"config": config, "spec": spec, "preprocess": lambda batch, *, key, train: batch}
    network = train.fit_by_gradient(
        discriminator.objective,
        **shared,
        init=discriminator.init,
        **studies.measured(discriminator, "discriminative"),
        monitor=("nll_nats_discriminative", "min"),
    )
    dense = train.fit_by_gradient(
        density.objective,
        **shared,
        init=density.init,
        start=lambda params, state, results: (params, {**state, "log_prior": results["gaussian"].arrays["log_prior"]}),
        uses=("gaussian",),
        **class_density.held_out(quick, density, row_keys, math.prod(spec.shape))._asdict(),
        monitor=("bits_per_dim", "min"),
        ruler=train.likelihood(density.kind),
        sample=class_density.sampler(density),
        sample_options=("label",),
    )
    return {"discriminative": network, "density": dense}


def held_out(data: Data) -> Mapping[str, np.ndarray]:
    """What chooses models in the studies: validation images, or training images where there are none."""
    return (data.validation if data.validation.size else data.train).first(2000)


def build(config: Config, spec: DataSpec) -> System:
    """Compose the Gaussians, both fits, the studies of labels and of damage, and figures."""
    density, quick = (make_density(config, spec, count) for count in (config.samples, config.study_samples))
    network, prepare = MLP(config.hidden, spec.classes), train.standardized(spec)
    classes, levels = spec.classes, spec.levels
    order = (*gaussian_images.MODELS, "discriminative", config.density)
    discriminator = studies.discriminative(network, supervised(network, softmax_cross_entropy, inputs="x"), prepare)
    predict = class_density.classify(quick, key=jax.random.key(0))

    def judges(results: Results) -> dict[str, Any]:
        """Every trained model as a judge of images, (x, observed) -> log p(y|x)."""
        models, net, trained = results["gaussian"].arrays["models"], results["discriminative"], results["density"]
        found = {name: gaussian_images.judge(gaussian_images.restored(models[name]), levels) for name in models}
        found["discriminative"] = lambda x, observed: discriminator.judged(net.params, net.state, x)
        found[config.density] = class_density.judge(quick, trained.params, trained.state, key=jax.random.key(0))
        return {name: found[name] for name in order}

    tx = make_optimizer(config.optimizer, config.study_steps)
    few = functools.partial(studies.learner, tx=tx, batch_size=config.train.batch_size, steps=config.study_steps)
    learners = {"discriminative": discriminator, config.density: (density.objective, density.init, predict)}
    networks = {name: few(*parts) for name, parts in learners.items()}

    def learn(key: Key, data: Data, results: Results, cell: str) -> Findings:
        rows, held, test = data.train.all(), held_out(data), data.test.first(config.study_images)
        chosen = studies.balanced(rows["label"], int(cell.removeprefix("n")))
        found = gaussian_study.posteriors(rows, held, chosen, test["image"], classes, levels, SHRINKAGES)
        found |= {name: learnt(key, rows, held, chosen, test["image"]) for name, learnt in networks.items()}
        return Findings({name: np.asarray(studies.scores(p, test["label"])) for name, p in found.items()})

    def damage(key: Key, data: Data, results: Results) -> Findings:
        rows, fill = data.test.first(config.study_images), studies.mean_image(data.train.all()["image"])
        options = {"fractions": config.fractions, "stds": config.noises}
        args = rows["image"], rows["label"], fill, levels
        found = {name: studies.robustness(key, one, *args, **options) for name, one in judges(results).items()}
        curves = panel("classifiers.robustness", config.fractions, config.noises, found, 1 / classes)
        return Findings(found, {"robustness": curves})

    def gaussians(key: Key, data: Data, results: Results) -> Findings:
        splits = data.train.all(), held_out(data), data.test.all()
        return Findings(gaussian_study.study(*splits, classes, levels, SHRINKAGES))

    cells = tuple(f"n{count}" for count in (*(n for n in config.labels if n < spec.sizes[0]), spec.sizes[0]))
    uses = ("gaussian", "discriminative", "density")
    gallery = lambda key, data, results: look(spec, judges(results), density, data, results)  # noqa: E731
    return System(
        {
            "gaussian": Study(gaussians, gaussian_study.named_metrics),
            **make_fits(config, spec, density, quick, discriminator),
            "labels": Study(learn, panels=lambda found: report.classifiers.curves_by_count(found, order), cells=cells),
            "damage": Study(damage, uses=uses),
            "baselines": Study(lambda key, data, results: Findings(train.image_baselines(data)), dict, beside=True),
            "gallery": Study(gallery, lambda arrays: studies.in_microseconds(arrays["timing"]), uses=uses, beside=True),
        },
        functions={"predict": predict},
        headline=("accuracy", "accuracy_*"),
    )


def look(spec: DataSpec, judged: Mapping[str, Any], density: ClassDensity, data: Data, results: Results) -> Findings:
    """Samples of every class, calibration, and what an image costs."""
    rows, trained, key, ten = data.test.first(5000), results["density"], jax.random.key(0), min(spec.classes, 10)
    labels = np.repeat(np.arange(ten), 10)
    images = np.asarray(jax.jit(density.draw)(key, trained.params, trained.state, labels))
    models = {k: gaussian_images.restored(results["gaussian"].arrays["models"][k]) for k in gaussian_images.MODELS}
    drawn = {k: gaussian_images.draw(key, m, np.arange(ten), spec.shape, spec.levels) for k, m in models.items()}
    bins, seconds = studies.calibrations(judged, rows["image"], rows["label"])
    panels = report.classifiers.class_samples(images, labels, spec.class_names, drawn)
    panels["calibration"] = panel("classifiers.calibrations", bins)
    return Findings({"timing": seconds}, panels)
