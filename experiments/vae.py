"""Variational autoencoder: bounds, reconstructions, samples, traversals (lecture 23–24).

./launch/local.sh train --experiment=vae --data=digits
./launch/local.sh train --experiment=vae --data=fashion_mnist
./launch/local.sh train --experiment=vae --data=fashion_mnist --preset=eight_bit
./launch/local.sh train --experiment=vae --data=digits --set=posterior=flow --set=prior=flow

Binarised Fashion-MNIST: 50,000/10,000/10,000 images, pixels drawn from Bernoulli(grey/255), anew at every step of
training and once with a fixed seed for validation and test. The noise of the binarisation alone is 189.86 nats.

`elbo_nats` and the importance-weighted `iwae_nats` are lower bounds of log p(x): the larger the better, negative for
discrete pixels. `nll_nats` is minus the tighter one, an upper bound of −log p(x). With posterior `concrete` these are
bounds of the model with one-hot codes; what training reports is of relaxed ones, and no bound.
"""

import functools
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.data import Data, DataSpec, row_keys
from dlcore.generative import decoder, vae
from dlcore.generative.likelihoods import named, usual
from dlcore.generative.vae.held_out import held_out
from dlcore.generative.vae.hierarchical import two_levels
from dlcore.generative.vae.named import CodesConfig, codes
from dlcore.lookup import check_name
from dlcore.networks import MADE, Ladder, MLPConditioner, coders, ladder
from dlcore.nn import example, tables
from dlcore.optim import OptimizerConfig
from dlcore.report import latent as figures
from dlcore.train import FEW, LoopConfig, Result, System, budget, density_system, unit_pixels
from dlcore.types import Key, Objective, Params, State

PRESETS = ("smoke", "default", "full", "manifold", "conv", "hierarchical", "eight_bit")
FLOWS = {"maf": MADE, "coupling": MLPConditioner}
VALIDATION = {"fashion_mnist": 10_000}
"""Sizes of the validation split that the literature's protocol asks for."""


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    model: str = "mlp"
    """"mlp", "conv", or "ladder": convolutional, with two levels of codes."""
    widths: tuple[int, ...] = (300, 300)
    """Hidden widths, or channels, of the encoder; the decoder has them in reverse. Of a ladder the channels at half and
    at a quarter of the sides."""
    activation: str = "gated"
    """Of the MLP: "gated", or the name of an activation; the convolutional networks use SiLU, a ladder ReLU."""
    latent: int = 40
    """Variables of a code; a ladder has maps of `code_channels` instead."""
    code_channels: tuple[int, ...] = (4, 8)
    """Of a ladder: channels of the lower code, at half of the sides, and of the upper one, at a quarter."""
    blocks: int = 1
    """Of a ladder: residual blocks at each resolution of each network."""
    posterior: str = "normal"
    """"normal", "laplace", "logistic", "flow", "categorical" (one-hot) or "concrete" (the same, trained relaxed)."""
    prior: str = "standard"
    """"standard" (normal, or uniform over categories), "vamp" (of pseudo-inputs) or "flow"."""
    codes: CodesConfig = field(default_factory=CodesConfig)
    likelihood: str = "bernoulli"
    """"bernoulli" (binarised pixels), "gaussian", "gaussian_learned", "categorical", "logistic" (discretised) or
    "colour_mixture" (the same with logistics that the colours of a pixel share).

    The presets binarise grey images of the MNIST family, known by their name, as the literature does. All others, and
    the preset `eight_bit` these too, they model as they are stored: "categorical" where grey levels are few, or else
    "logistic"."""
    components: int = 1
    """Logistics in the mixture of "logistic" and "colour_mixture"."""
    std: float = 0.1
    """σ of the likelihood "gaussian"."""
    objective: str = "elbo"
    """"elbo" or "iwae"."""
    gradient: str = "pathwise"
    """Estimator: for the elbo "pathwise", "stl", "score" or "rloo"; for iwae "pathwise" or "dreg"."""
    samples: int = 1
    """Codes per image in training."""
    beta: float = 1.0
    warmup_epochs: float = 0.0
    """Epochs over which β rises from 0."""
    free_bits: float = 0.0
    """Nats that every latent dimension may use unpunished."""
    ema: float = 0.0
    iwae_samples: int = 5000
    """Codes per image in the test; 0 tests by the ELBO alone."""
    iwae_chunk: int = 50
    """Codes per image that are decoded at once."""
    quality_samples: int = 2048
    """Samples compared with real images after training; 0 for none."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    optimizer = OptimizerConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=100)
    few = spec.sizes[0] < FEW
    if few:
        # A network learns so few images by heart: decay puts that off, and the best of validation is what is kept.
        optimizer = replace(optimizer, name="adamw", weight_decay=1.0)
    loop = functools.partial(budget, spec.sizes[0], restore_best=few)
    likelihood = usual(spec.name, spec.levels or 0, spec.shape[-1])
    # The binarised benchmark has the literature's long protocol; a step of 256 grey levels, or a code, is far dearer.
    benchmark = likelihood == "bernoulli"
    long, short = {"batch_size": 128, "steps": 31_200, "every": 3_900}, {"batch_size": 64, "steps": 7_800, "every": 975}
    train = loop(**(long if benchmark else short))
    base = Config(optimizer=optimizer, train=train, warmup_epochs=train.epochs / 16, ema=0.999)
    base = replace(base, likelihood=likelihood, iwae_samples=5_000 if benchmark else 500)
    if max(spec.shape[:2]) <= 16:
        train = loop(batch_size=64, steps=4_750, every=238)
        base = replace(base, widths=(256, 256), latent=16, iwae_samples=1000, train=train)
        base = replace(base, warmup_epochs=train.epochs / 50)
    shorter = base.train.scaled(1 / 4, every=1 / 4)
    codes = {"model": "ladder", "widths": (32, 48), "iwae_samples": 20, "iwae_chunk": 2}
    grey = shorter if max(spec.shape[:2]) <= 16 else loop(batch_size=32, steps=10_000, every=1_000)
    changes = {
        "smoke": {"iwae_samples": 100, "quality_samples": 0, "warmup_epochs": 0.0, "train": base.train.scaled(1 / 5)},
        "full": {"train": base.train.scaled(5)},
        "manifold": {"latent": 2},
        "conv": {"model": "conv", "widths": (32, 64), "iwae_samples": 0, "train": shorter},
        "hierarchical": codes | {"train": shorter, "warmup_epochs": shorter.epochs / 16},
        "eight_bit": codes
        | {"train": grey, "warmup_epochs": 0.0, "likelihood": "logistic", "components": 3}
        | {"optimizer": replace(optimizer, learning_rate=2e-3, clip_norm=200.0)},
    }
    return replace(base, **changes.get(name, {}))


def make_vae(config: Config, spec: DataSpec) -> vae.VAE:
    """Networks, likelihood, posterior and prior that `config` names, for images like `spec`."""
    spec.need("vae", images=True)
    family = named(config.likelihood, spec.levels, spec.shape[2], components=config.components, std=config.std)
    outputs = (*spec.shape[:2], family.per_pixel(spec.shape[2]))
    check_name("model", config.model, ("mlp", "conv", "ladder"))
    if config.model == "ladder":
        return make_ladder(config, outputs, family)
    annealing = config.train.total_steps(spec.sizes[0]) // 2
    used = codes(config.posterior, config.prior, config.latent, config.codes, FLOWS, annealing=annealing)
    networks = coders(config.model, config.widths, used.outputs, outputs, activation=config.activation)
    return vae.check(vae.VAE(*networks, family, posterior=used.posterior, prior=used.prior))


def make_ladder(config: Config, outputs: tuple[int, ...], family: decoder.Likelihood) -> vae.VAE:
    """Two levels of codes, whose posterior and prior are normal at each level."""
    if (config.posterior, config.prior) != ("normal", "standard"):
        chosen = f"posterior={config.posterior} and prior={config.prior}"
        raise ValueError(f"model=ladder has normal codes at two levels, got {chosen}; use model=mlp or conv for these")
    sizes = Ladder(outputs[:2], config.widths, config.code_channels, config.blocks)
    encoder, drawn, lower, prior = ladder(sizes, outputs[2])
    return two_levels(vae.VAE(encoder, drawn, family), lower, prior, upper=sizes.upper, lower=sizes.lower)


def make_objective(config: Config, system: vae.VAE, spec: DataSpec) -> Objective:
    """The training objective that `config` names."""
    options = {"samples": config.samples, "gradient": config.gradient}
    if config.objective == "iwae":
        return vae.negative_iwae(system, **options)
    if config.objective != "elbo":
        raise ValueError(f"objective must be elbo or iwae, got {config.objective!r}")
    warmup = round(config.warmup_epochs * config.train.steps_per_epoch(spec.sizes[0]))
    options |= {"beta": config.beta, "warmup_steps": warmup, "free_bits": config.free_bits}
    return vae.negative_elbo(system, **options)


def build(config: Config, spec: DataSpec) -> System:
    """Compose networks, bound, optimiser, held-out bounds, samples and figures."""
    binary = config.likelihood == "bernoulli"
    system, preprocess = make_vae(config, spec), unit_pixels(spec, binary=binary)
    dims = vae.code_size(system, example(spec.shape))
    held = held_out(system, spec.shape, row_keys, samples=config.iwae_samples, chunk=config.iwae_chunk)

    @functools.partial(jax.jit, static_argnums=3)
    def sample(params: Params, state: State, key: Key, num: int, temperature: Any = 1.0) -> jax.Array:
        z = vae.sample_codes(key, system, params, state, (num, dims), temperature=temperature)
        return vae.sample_outputs(system, params, state, z)

    return density_system(
        "vae",
        make_objective(config, system, spec),
        config,
        spec,
        functools.partial(draw, config, system, preprocess, sample),
        kind="upper bound" if system.likelihood.discrete else "",
        binary=binary,
        init=lambda key, batch: vae.init(key, system, batch["image"]),
        preprocess=preprocess,
        **held._asdict(),
        monitor=("elbo_nats", "max"),
        describe=lambda: tables((system.encoder, example(spec.shape)), (system.decoder, example((dims,)))),
        sample=sample,
        sample_options=("temperature",),
    )


def draw(config: Config, system: vae.VAE, preprocess: Any, sample: Any, trained: Result, data: Data) -> dict[str, Any]:
    """Reconstructions, samples, interpolations and traversals on test images; the manifold of a 2-D code."""
    params, state = trained.params, trained.state
    chosen = np.arange(min(500, data.test.size), dtype=np.int32)
    x = preprocess({**data.test.read(chosen), "row": chosen}, key=None, train=False)["image"]
    found = np.asarray(jax.jit(functools.partial(vae.centre, system))(params, state, x))
    decoded = jax.jit(lambda z: vae.sample_outputs(system, params, state, z))
    images = lambda z: np.asarray(decoded(jnp.asarray(z, jnp.float32)))  # noqa: E731
    drawn = lambda t, count: np.asarray(sample(params, state, jax.random.key(0), count, t))  # noqa: E731
    categories, levels = config.codes.categories if system.posterior.discrete else 0, 1 + (config.model == "ladder")
    return figures.gallery(images, np.asarray(x), found, drawn, categories=categories, levels=levels)
