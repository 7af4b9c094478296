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

from dlcore import report
from dlcore.data import Data, DataSpec, labels_of, random_shift, row_keys, scale
from dlcore.evaluation import collapse
from dlcore.generative import gan, gan_held_out
from dlcore.networks import MLP, DCDiscriminator, DCGenerator, conditioned, critic
from dlcore.nn import SpectralNorm, cropped, example, in_precision, padded_sides, tables
from dlcore.optim import OptimizerConfig, learning_rate, make_optimizer
from dlcore.report.panel import panel
from dlcore.train import Fit, LoopConfig, Result, System, adversarial_update, budget, generative_system, signed_pixels
from dlcore.types import Batch, Key, Params, State, Update

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
    if config.conditional and not spec.classes:
        raise ValueError(f"conditional=true needs classes, and {spec.name} has none")
    if 1 in spec.sizes[1:]:
        raise ValueError(f"gan compares means over examples, and {spec.name} holds out only one; use more examples")
    if config.discriminator_steps < 1:
        raise ValueError(f"discriminator_steps must be at least 1, got {config.discriminator_steps}")
    classes = spec.classes if config.conditional else 0
    if target_of(spec) == "point":
        generator = MLP(config.generator, spec.shape[0], activation="silu")
        *hidden, last = config.discriminator
        discriminator = critic(MLP(hidden, last, activation="silu"), classes=classes)
    else:
        drawn = padded_sides(spec.shape, 2 ** len(config.generator))
        generator = cropped(DCGenerator(drawn, config.generator), *spec.shape[:2])
        discriminator = DCDiscriminator(config.discriminator, classes=classes)
    generator = conditioned(generator, classes) if classes else generator
    generator, discriminator = (in_precision(model, config.dtype) for model in (generator, discriminator))
    discriminator = SpectralNorm(discriminator) if config.spectral else discriminator
    return gan.GAN(generator, discriminator, config.latent, bool(classes))


def make_update(config: Config, spec: DataSpec, system: gan.GAN, txs: Mapping[str, Any]) -> Update:
    """The discriminator's updates, the generator's, and the moving average."""
    loss, target = gan.loss_by_name(config.loss), target_of(spec)
    shift = {"augment": lambda key, x: random_shift(key, x, config.shift)} if config.shift else {}
    weights = {"gradient_penalty_weight": config.gradient_penalty, "r1_weight": config.r1}
    objectives = {
        "discriminator": gan.discriminator_objective(system, loss, target=target, **weights, **shift),
        "generator": gan.generator_objective(system, loss, target=target, **shift),
    }
    return adversarial_update(objectives, txs, steps=config.discriminator_steps, ema=config.ema)


def build(config: Config, spec: DataSpec) -> System:
    """Compose networks, the two objectives, optimisers, the collapse report, samples and figures."""
    system, target, loss = make_gan(config, spec), target_of(spec), gan.loss_by_name(config.loss)
    total = config.train.total_steps(spec.sizes[0])
    faster = replace(config.optimizer, learning_rate=config.discriminator_rate * config.optimizer.learning_rate)
    optimizers = {"generator": config.optimizer, "discriminator": faster}
    txs = {name: make_optimizer(optimizer, total) for name, optimizer in optimizers.items()}
    # Images span [−1, 1], so that a standard deviation counts twice.
    spread = (1 if target == "point" else 2) * math.sqrt(math.prod(spec.shape) * float(np.mean(np.square(spec.std))))
    modes = gan_held_out.Modes(MODES, 3 * MODE_STD) if spec.name == "eight_gaussians" else None
    measure = gan_held_out.held_out(system, loss, row_keys, target=target, spread=spread, modes=modes)

    @functools.partial(jax.jit, static_argnums=3)
    def sample(params: Params, state: State, key: Key, num: int, label: Any = None, temperature: Any = 1.0) -> Any:
        z = temperature * jax.random.normal(key, (num, config.latent))
        chosen = jnp.arange(num) % (spec.classes or 1) if label is None else jnp.full(num, label)
        return to_unit(spec, gan.generate(system, params, state, z, chosen if system.conditional else None)[0])

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        return gan.init(key, system, batch[target], batch["label"] if system.conditional else None)

    given = (example((), jnp.int32),) if system.conditional else ()
    networks = (system.generator, example((config.latent,))), (system.discriminator, example(spec.shape))
    fit = Fit(
        loop=config.train,
        init=init,
        update=make_update(config, spec, system, txs),
        preprocess=signed_pixels(spec),
        **measure._asdict(),
        monitor=("mmd", "min"),
        learning_rates={"learning_rate": learning_rate(config.optimizer, total)},
        describe=lambda: tables(*((*network, *given) for network in networks)),
        sample=sample,
        sample_options=("temperature", *(("label",) if system.conditional else ())),
    )

    look = functools.partial(draw, config, system, sample)
    return generative_system("gan", fit, spec, look, quality_samples=config.quality_samples)


def to_unit(spec: DataSpec, x: Any) -> Any:
    """[−1, 1] to [0, 1] for images; points stay."""
    return x if target_of(spec) == "point" else (x + 1) / 2


def draw(config: Config, system: gan.GAN, sample: Any, trained: Result, data: Data, num: int = 1000) -> dict[str, Any]:
    """Samples, their classes, the discriminator's scores; for images, neighbours and interpolations as well."""
    spec, target, loss = data.spec, target_of(data.spec), gan.loss_by_name(config.loss)
    params, state = trained.params, trained.state
    rows = {"training": data.train.first(10_000), "held out": data.test.first(num)}
    standard = functools.partial(signed_pixels(spec), key=None, train=False)
    real = {name: np.asarray(standard(raw)[target]) for name, raw in rows.items()}
    samples = np.asarray(sample(params, state, jax.random.key(0), num))
    shown = {name: x[:num] for name, x in real.items()}
    shown["samples"] = samples if target == "point" else 2 * samples - 1
    label = {"samples": np.arange(num) % (spec.classes or 1)} | {k: labels_of(raw)[:num] for k, raw in rows.items()}
    score = jax.jit(lambda x, y: loss.score(gan.discriminate(system, params, state, x, y)[0]))
    scores = {name: np.asarray(score(x, label[name] if system.conditional else None)) for name, x in shown.items()}
    probable = config.loss.endswith("saturating")
    name = "D(x), probability of being real" if probable else "D(x)"
    kinds = {"d_real": "training", "d_fake": "samples", "d_heldout": "held out"} if probable else {}
    means = {kind: float(scores[of].mean()) for kind, of in kinds.items()}
    known = real["training"], labels_of(rows["training"])
    judged = collapse.examine(shown["samples"], *known, shown["held out"], spec.classes or 1, **means)
    drawn = {"scores": panel("gan.scores", scores, name)}
    drawn |= {"classes": report.gan.spread_over_classes(judged, spec.class_names)} if spec.classes else {}
    if spec.shape == (2,) and not system.conditional:
        drawn["plane"] = report.gan.over_plane(lambda x: score(x, None), shown["held out"], samples, name)
    if target == "point":
        return drawn
    known = np.asarray(scale(jnp.asarray(rows["training"]["image"]), spec.levels))
    near = known[collapse.nearest_neighbour(samples[:12], known)]
    told = jnp.repeat(jnp.arange(6) % spec.classes, 10) if system.conditional else None

    def images(z: np.ndarray) -> np.ndarray:
        return np.asarray(to_unit(spec, gan.generate(system, params, state, jnp.asarray(z), told)[0]))

    ends = np.asarray(jax.random.normal(jax.random.key(1), (6, 2, 1, system.latent)))
    return drawn | report.gan.gallery(samples, near, images, ends)
