"""Generative adversarial network: a DCGAN on images, small perceptrons on points (lecture 27).

./launch/local.sh train --experiment=gan --data=digits
./launch/local.sh train --experiment=gan --data=fashion_mnist
./launch/local.sh train --experiment=gan --data=eight_gaussians
./launch/local.sh train --experiment=gan --data=digits --set=loss=hinge --set=conditional=true

`d_real`, `d_fake` and `d_heldout` are the discriminator's means over training examples (running), samples, and examples
that it has not seen: probabilities of being real with a BCE loss, logits with the others. `mmd` is the squared maximum
mean discrepancy of pixels or points between samples and held-out examples: it is the one that is watched.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.data import Data, DataSpec, random_shift, row_keys, scale
from dlcore.evaluation import collapse
from dlcore.generative import gan
from dlcore.networks import MLP, DCDiscriminator, DCGenerator, conditioned, critic
from dlcore.nn import SpectralNorm, compute_in, cropped, padded_sides, summarize, table
from dlcore.optim import OptimizerConfig, learning_rate, make_optimizer
from dlcore.precision import matmul
from dlcore.report.panel import panel
from dlcore.train import (
    Findings,
    Fit,
    LoopConfig,
    Result,
    System,
    budget,
    chain,
    ema_update,
    generative_system,
    gradient_update,
    repeated,
    reported,
)
from dlcore.types import Batch, Key, Mean, Model, Params, State, Update

PRESETS = ("smoke", "default", "full")
MODES = 2.8 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], -1).astype(np.float32)
"""Centres of the data set `eight_gaussians`."""
MODE_STD = 0.2


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    loss: str = "non_saturating"
    """"saturating", "non_saturating", "hinge" or "wasserstein"."""
    generator: tuple[int, ...] = (128, 64)
    """Channels of the DCGAN's stages from the smallest on, or hidden widths for points."""
    discriminator: tuple[int, ...] = (32, 64)
    latent: int = 64
    conditional: bool = False
    """Whether both networks are told the class."""
    spectral: bool = False
    """Spectral norm in the discriminator."""
    gradient_penalty: float = 0.0
    """λ of the gradient penalty; 10 for the Wasserstein loss."""
    r1: float = 0.1
    """γ of the R1 penalty."""
    discriminator_steps: int = 1
    """Discriminator updates per update of the generator."""
    discriminator_rate: float = 1.0
    """Learning rate of the discriminator over that of the generator."""
    shift: int = 0
    """Random translations of what the discriminator sees, real and fake, by up to so many pixels."""
    ema: float = 0.999
    """Decay of the moving average that samples are drawn from; 0 keeps none."""
    dtype: str = "float32"
    """Compute precision: "float32" or "bfloat16"; params are float32 in any case."""
    quality_samples: int = 2048
    """Samples compared with real images after training; 0 for none."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    optimizer = OptimizerConfig(learning_rate=4e-4, schedule="cosine", floor=0.1, b1=0.5, b2=0.99, epsilon=1e-6)
    loop = functools.partial(budget, spec.sizes[0])
    base = Config(optimizer=optimizer, train=loop(batch_size=32, steps=34_360, every=6_872))
    if len(spec.shape) == 1:
        train = loop(batch_size=256, steps=3_900, every=780)
        widths = {"generator": (256, 256), "discriminator": (256, 256), "latent": 2, "quality_samples": 0}
        base = replace(base, **widths, r1=0.05, discriminator_steps=2, train=train)
        base = replace(base, optimizer=replace(optimizer, learning_rate=2e-3))
    elif max(spec.shape[:2]) <= 16:
        train = loop(batch_size=32, steps=11_700, every=1_950)
        base = replace(base, generator=(64, 32), optimizer=replace(optimizer, learning_rate=1e-3), train=train)
    elif not any(side % 8 for side in spec.shape[:2]):
        base = replace(base, generator=(256, 128, 64), discriminator=(64, 128, 256))
    if name == "smoke":
        return replace(base, ema=0.99, quality_samples=0, train=base.train.scaled(1 / 10, every=1 / 4))
    if name == "full":
        wide = [tuple(2 * w for w in widths) for widths in (base.generator, base.discriminator)]
        return replace(base, generator=wide[0], discriminator=wide[1], train=base.train.scaled(5))
    return base


def target_of(spec: DataSpec) -> str:
    """What a batch calls its examples."""
    return "point" if len(spec.shape) == 1 else "image"


def make_gan(config: Config, spec: DataSpec) -> gan.GAN:
    """Networks for data like `spec`; raises `ValueError` for what `config` cannot mean."""
    if config.dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype must be float32 or bfloat16, got {config.dtype!r}")
    if config.conditional and not spec.classes:
        raise ValueError(f"conditional=true needs classes, and {spec.name} has none")
    if 1 in spec.sizes[1:]:
        raise ValueError(f"gan compares means over examples, and {spec.name} holds out only one; use more examples")
    if config.discriminator_steps < 1:
        raise ValueError(f"discriminator_steps must be at least 1, got {config.discriminator_steps}")
    classes = spec.classes if config.conditional else 0
    if target_of(spec) == "point":
        generator = MLP(config.generator, spec.shape[0], activation="silu")
        discriminator = critic(hidden(config.discriminator), classes=classes)
    else:
        drawn = padded_sides(spec.shape, 2 ** len(config.generator))
        generator = cropped(DCGenerator(drawn, config.generator), *spec.shape[:2])
        discriminator = DCDiscriminator(config.discriminator, classes=classes)
    generator = conditioned(generator, classes) if classes else generator
    if config.dtype == "bfloat16":
        generator, discriminator = (compute_in(model, jnp.bfloat16) for model in (generator, discriminator))
    discriminator = SpectralNorm(discriminator) if config.spectral else discriminator
    return gan.GAN(generator, discriminator, config.latent, bool(classes))


def hidden(widths: tuple[int, ...]) -> Model:
    """The hidden layers of the discriminator of points."""
    return MLP(widths[:-1], widths[-1], activation="silu")


def make_preprocess(spec: DataSpec) -> Any:
    """Pixels to [−1, 1]; points stay."""

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        if target_of(spec) == "point":
            return batch
        return {**batch, "image": 2 * scale(batch["image"], spec.levels) - 1}

    return preprocess


def make_update(config: Config, spec: DataSpec, system: gan.GAN, txs: Mapping[str, Any]) -> Update:
    """The discriminator's updates, the generator's, and the moving average."""
    loss, target = gan.loss_by_name(config.loss), target_of(spec)
    shift = {"augment": lambda key, x: random_shift(key, x, config.shift)} if config.shift else {}
    judge = gan.discriminator_objective(
        system, loss, gradient_penalty_weight=config.gradient_penalty, r1_weight=config.r1, target=target, **shift
    )
    forge = gan.generator_objective(system, loss, target=target, **shift)
    discriminator = gradient_update(judge, txs["discriminator"], only="discriminator/**")
    return chain(
        discriminator=reported(repeated(discriminator, config.discriminator_steps), "d_real"),
        generator=gradient_update(forge, txs["generator"], only="generator/**"),
        **({"ema": ema_update(config.ema)} if config.ema else {}),
    )


def build(config: Config, spec: DataSpec) -> System:
    """Compose networks, the two objectives, optimisers, the collapse report, samples and figures."""
    system, target, loss = make_gan(config, spec), target_of(spec), gan.loss_by_name(config.loss)
    total = config.train.total_steps(spec.sizes[0])
    faster = replace(config.optimizer, learning_rate=config.discriminator_rate * config.optimizer.learning_rate)
    optimizers = {"generator": config.optimizer, "discriminator": faster}
    txs = {name: make_optimizer(optimizer, total) for name, optimizer in optimizers.items()}
    ring = spec.name == "eight_gaussians"
    # Images span [−1, 1], so that a standard deviation counts twice.
    spread = (1 if target == "point" else 2) * math.sqrt(math.prod(spec.shape) * float(np.mean(np.square(spec.std))))
    waves = functools.partial(collapse.frequencies, jax.random.key(0), math.prod(spec.shape), spread)

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        x, where, label = batch[target], batch["where"], batch["label"] if system.conditional else None
        z = jax.vmap(lambda k: jax.random.normal(k, (config.latent,)))(row_keys(key, batch["row"]))
        fake, _ = gan.generate(system, params, state, z, label)
        kinds = {"d_heldout": x, "d_fake": fake}
        logits = {name: gan.discriminate(system, params, state, y, label)[0] for name, y in kinds.items()}
        found: dict[str, Any] = {name: Mean.of(loss.score(a), where) for name, a in logits.items()}
        weight = where.astype(jnp.float32)
        found |= {f"sum_{name}": matmul(weight, collapse.fourier_features(y, waves())) for name, y in kinds.items()}
        hits = {"modes": matmul(weight, collapse.mode_hits(fake, jnp.asarray(MODES), 3 * MODE_STD))} if ring else {}
        return found | hits

    def summarize_sums(sums: Mapping[str, Any]) -> dict[str, float]:
        count = float(sums["d_fake"].count)
        found = {name: float(sums[name].value()) for name in ("d_fake", "d_heldout")}
        found["mmd"] = collapse.squared_mmd(
            *(np.asarray(sums[f"sum_{name}"]) for name in ("d_heldout", "d_fake")), count
        )
        if ring:
            hits = np.asarray(sums["modes"])
            found["modes"] = float(((hits / count) >= collapse.SHARE / len(hits)).sum())
            found["inside_modes"] = float(hits.sum() / count)
        return found

    @functools.partial(jax.jit, static_argnums=3)
    def sample(params: Params, state: State, key: Key, num: int, label: Any = None, temperature: Any = 1.0) -> Any:
        z = temperature * jax.random.normal(key, (num, config.latent))
        chosen = jnp.arange(num) % (spec.classes or 1) if label is None else jnp.full(num, label)
        return to_unit(spec, gan.generate(system, params, state, z, chosen if system.conditional else None)[0])

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        return gan.init(key, system, batch[target], batch["label"] if system.conditional else None)

    z, x = (jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in ((config.latent,), spec.shape))
    given = (jax.ShapeDtypeStruct((1,), jnp.int32),) if system.conditional else ()
    networks = [(system.generator, z), (system.discriminator, x)]
    fit = Fit(
        loop=config.train,
        init=init,
        update=make_update(config, spec, system, txs),
        preprocess=make_preprocess(spec),
        evaluate=evaluate,
        summarize=summarize_sums,
        monitor=("mmd", "min"),
        learning_rates={"learning_rate": learning_rate(config.optimizer, total)},
        describe=lambda: "\n".join(table(summarize(model, given_input, *given)) for model, given_input in networks),
        sample=sample,
        sample_options=("temperature", *(("label",) if system.conditional else ())),
    )

    def look(key: Key, data: Data, trained: Result) -> Findings:
        return Findings(panels=draw(config, system, sample, trained.params, trained.state, data))

    return generative_system("gan", fit, spec, look, quality_samples=config.quality_samples)


def to_unit(spec: DataSpec, x: Any) -> Any:
    """[−1, 1] to [0, 1] for images; points stay."""
    return x if target_of(spec) == "point" else (x + 1) / 2


def draw(
    config: Config, system: gan.GAN, sample: Any, params: Params, state: State, data: Data, num: int = 1000
) -> dict:
    """Samples, their classes, the discriminator's scores; for images, neighbours and interpolations as well."""
    spec, target, loss = data.spec, target_of(data.spec), gan.loss_by_name(config.loss)
    preprocess = make_preprocess(spec)
    kinds = {"training": data.train, "held out": data.test}
    rows = {name: split.read(np.arange(min(num, split.size))) for name, split in kinds.items()}
    shown = {name: np.asarray(preprocess(raw, key=None, train=False)[target]) for name, raw in rows.items()}
    samples = np.asarray(sample(params, state, jax.random.key(0), num))
    label = {"samples": np.arange(num) % (spec.classes or 1)} | {name: raw["label"] for name, raw in rows.items()}
    shown["samples"] = samples if target == "point" else 2 * samples - 1
    score = jax.jit(lambda x, y: loss.score(gan.discriminate(system, params, state, x, y)[0]))
    scores = {name: np.asarray(score(x, label[name] if system.conditional else None)) for name, x in shown.items()}
    name = "D(x), probability of being real" if config.loss.endswith("saturating") else "D(x)"
    drawn = {
        "scores": panel("gan.scores", scores, name),
        "classes": classes(spec, shown["samples"], shown["held out"], data, scores, config),
    }
    if target == "image":
        return drawn | image_figures(config, system, params, state, samples, data)
    if spec.shape == (2,) and not system.conditional:
        ticks = np.linspace(-4.5, 4.5, 80, dtype=np.float32)
        grid = score(np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2), None).reshape(80, 80)
        drawn["plane"] = panel("gan.plane", shown["held out"], samples, np.asarray(grid), 4.5, name)
    return drawn


def classes(
    spec: DataSpec,
    samples: np.ndarray,
    heldout: np.ndarray,
    data: Data,
    scores: Mapping[str, np.ndarray],
    config: Config,
) -> Any:
    """The histogram of classes by the nearest training example, titled with what the collapse report finds."""
    raw = data.train.read(np.arange(min(10_000, data.train.size)))
    known = np.asarray(make_preprocess(spec)(raw, key=None, train=False)[target_of(spec)])
    count = spec.classes or 1
    real = np.bincount(raw["label"], minlength=count) / len(known)
    report = collapse.Report(
        collapse.class_histogram(lambda x: raw["label"][collapse.nearest_neighbour(x, known)], samples, count),
        real,
        collapse.diversity(samples, known),
        *(
            [float(scores[k].mean()) for k in ("training", "samples", "held out")]
            if "saturating" in config.loss
            else []
        ),
        duplicates=collapse.duplicates(samples, heldout),
        copies=collapse.copies(samples, known, heldout),
    )
    title = "\n".join(report.problems()) or f"{report.covered()} of {count} classes, diversity {report.diversity:.2f}"
    return panel("gan.histogram", report.histogram, real, spec.class_names, title)


def image_figures(
    config: Config, system: gan.GAN, params: Params, state: State, samples: np.ndarray, data: Data
) -> dict[str, Any]:
    """A sheet of samples, the nearest training images of some, and straight lines between codes."""
    spec = data.spec
    raw = data.train.read(np.arange(min(10_000, data.train.size)))
    known = np.asarray(scale(jnp.asarray(raw["image"]), spec.levels))
    near = known[collapse.nearest_neighbour(samples[:12], known)]
    ends = np.asarray(jax.random.normal(jax.random.key(1), (6, 2, 1, config.latent)))
    along = np.linspace(0, math.pi / 2, 10)[:, None]
    codes = np.cos(along) * ends[:, 0] + np.sin(along) * ends[:, 1]
    label = jnp.repeat(jnp.arange(6) % spec.classes, 10) if system.conditional else None
    x, _ = gan.generate(system, params, state, jnp.asarray(codes.reshape(60, -1)), label)
    lines = [("", line) for line in np.asarray(to_unit(spec, x)).reshape(6, 10, *spec.shape)]
    return {
        "samples": panel("images.sheet", samples[:100], 10, "z ~ N(0, I)"),
        "neighbours": panel("images.rows", [("sample", samples[:12]), ("nearest training image", near)]),
        "interpolation": panel("images.rows", lines, "between two codes, along a circle"),
    }
