"""Variational autoencoder: bounds, reconstructions, samples, traversals (lecture 23–24).

./launch/local.sh train --experiment=vae --data=digits
./launch/local.sh train --experiment=vae --data=fashion_mnist
./launch/local.sh train --experiment=vae --data=digits --preset=manifold

Binarised Fashion-MNIST: 50,000/10,000/10,000 images, pixels drawn from Bernoulli(grey/255), anew at every step of
training and once with a fixed seed for validation and test. The noise of the binarisation alone is 189.86 nats.

`elbo_nats` and the importance-weighted `iwae_nats` are lower bounds of log p(x): the larger the better, negative for
discrete pixels. `nll_nats` is minus the tighter one, an upper bound of −log p(x).
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.data import Data, DataSpec, row_keys, scale
from dlcore.evaluation import Nats, baselines, summary
from dlcore.generative import decoder, vae
from dlcore.networks import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from dlcore.nn import cropped, padded_sides, summarize, table
from dlcore.optim import OptimizerConfig
from dlcore.report.panel import panel
from dlcore.train import (
    FEW,
    Findings,
    LoopConfig,
    Result,
    System,
    budget,
    fit_by_gradient,
    generative_system,
    image_baselines,
    likelihood,
)
from dlcore.types import Batch, Key, Mean, Params, State

PRESETS = ("smoke", "default", "full", "manifold", "conv")
VALIDATION = {"fashion_mnist": 10_000}
"""Sizes of the validation split that the literature's protocol asks for."""
BINARIZATION_SEED = 2024


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    model: str = "mlp"
    """"mlp" or "conv"."""
    widths: tuple[int, ...] = (300, 300)
    """Hidden widths, or channels, of the encoder; the decoder has them in reverse."""
    activation: str = "gated"
    """Of the MLP: "gated", or the name of an activation; the convolutional networks use SiLU."""
    latent: int = 40
    likelihood: str = "bernoulli"
    """"bernoulli" (binarised pixels), "gaussian", "gaussian_learned", "categorical", "logistic" (discretised) or
    "colour_mixture" (the same with logistics that the colours of a pixel share).

    The presets binarise grey images of the MNIST family, known by their name, as the literature does. All others they
    model as they are stored: "categorical" where grey levels are few, or else "logistic"."""
    components: int = 1
    """Logistics in the mixture of "logistic" and "colour_mixture"."""
    std: float = 0.1
    """σ of the likelihood "gaussian"."""
    objective: str = "elbo"
    """"elbo" or "iwae"."""
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
    likelihood = likelihood_of(spec)
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
    if name == "smoke":
        return replace(base, iwae_samples=100, quality_samples=0, warmup_epochs=0.0, train=base.train.scaled(1 / 5))
    if name == "full":
        return replace(base, train=base.train.scaled(5))
    if name == "manifold":
        return replace(base, latent=2)
    if name == "conv":
        shorter = base.train.scaled(1 / 4, every=1 / 4)
        return replace(base, model="conv", widths=(32, 64), iwae_samples=0, train=shorter)
    return base


def likelihood_of(spec: DataSpec) -> str:
    """The likelihood of the presets: of pixels as they are stored, but for the binarised benchmark."""
    if "mnist" in spec.name.lower() and spec.shape[-1] == 1:
        return "bernoulli"
    return "categorical" if (spec.levels or 0) <= decoder.FEW_LEVELS else "logistic"


def make_vae(config: Config, spec: DataSpec) -> vae.VAE:
    """Networks and likelihood that `config` names, for images like `spec`."""
    if len(spec.shape) != 3 or spec.levels is None:
        raise ValueError(f"vae needs images, and {spec.name} has none; use digits, for instance")
    likelihoods = {
        "bernoulli": decoder.bernoulli,
        "gaussian": lambda: decoder.gaussian(config.std),
        "gaussian_learned": decoder.gaussian_learned,
        "categorical": lambda: decoder.categorical(spec.levels),
        "logistic": lambda: decoder.discretized_logistic(spec.levels, config.components),
        "colour_mixture": lambda: decoder.colour_mixture(spec.levels, config.components, spec.shape[-1]),
    }
    if config.likelihood not in likelihoods:
        raise ValueError(f"likelihood must be one of {', '.join(likelihoods)}, got {config.likelihood!r}")
    likelihood = likelihoods[config.likelihood]()
    outputs = (*spec.shape[:2], likelihood.per_pixel(spec.shape[2]))
    if config.model == "conv":
        encoder = ConvEncoder(config.widths, 2 * config.latent)
        drawn = padded_sides(outputs, 2 ** len(config.widths))
        return vae.VAE(encoder, cropped(ConvDecoder(config.widths[::-1], drawn), *outputs[:2]), likelihood)
    if config.model != "mlp":
        raise ValueError(f"model must be mlp or conv, got {config.model!r}")
    encoder = MLPEncoder(config.widths, 2 * config.latent, activation=config.activation)
    return vae.VAE(encoder, MLPDecoder(config.widths[::-1], outputs, activation=config.activation), likelihood)


def make_preprocess(config: Config, spec: DataSpec) -> Any:
    """Pixels in [0, 1]; for a Bernoulli likelihood drawn as 0 or 1, held-out ones by row and fixed seed."""

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        images = scale(batch["image"], spec.levels)
        if config.likelihood != "bernoulli":
            return {**batch, "image": images}
        if train:
            return {**batch, "image": jax.random.bernoulli(key, images).astype(jnp.float32)}
        keys = row_keys(jax.random.key(BINARIZATION_SEED), batch["row"])
        return {**batch, "image": jax.vmap(jax.random.bernoulli)(keys, images).astype(jnp.float32)}

    return preprocess


def make_objective(config: Config, system: vae.VAE, spec: DataSpec) -> Any:
    """The training objective that `config` names."""
    if config.objective == "iwae":
        return vae.negative_iwae(system, samples=config.samples)
    if config.objective != "elbo":
        raise ValueError(f"objective must be elbo or iwae, got {config.objective!r}")
    return vae.negative_elbo(
        system,
        beta=config.beta,
        warmup_steps=round(config.warmup_epochs * config.train.steps_per_epoch(spec.sizes[0])),
        free_bits=config.free_bits,
        samples=config.samples,
    )


def build(config: Config, spec: DataSpec) -> System:
    """Compose networks, bound, optimiser, held-out bounds, samples and figures."""
    system, preprocess = make_vae(config, spec), make_preprocess(config, spec)
    dims, latent = math.prod(spec.shape), (config.latent,)
    if config.iwae_samples and config.iwae_samples % config.iwae_chunk:
        raise ValueError(f"iwae_chunk={config.iwae_chunk} must divide iwae_samples={config.iwae_samples}")

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        x, where, keys = batch["image"], batch["where"], row_keys(key, batch["row"])
        noise = jax.vmap(lambda k: jax.random.normal(k, latent))(keys)
        terms = vae.elbo_terms(system, params, state, x, noise[None])
        mean, log_std, _ = vae.encode(system, params, state, x)
        return {
            "negative_elbo": Nats.of(terms.reconstruction[0] + terms.kl.sum(-1), where),
            "kl": Mean.of(terms.kl.sum(-1), where),
            "activity": vae.activity(mean, log_std, where),
        }

    def evaluate_test(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        keys = row_keys(jax.random.fold_in(key, 1), batch["row"])
        options = {"samples": config.iwae_samples, "chunk": config.iwae_chunk}
        bound, error = vae.log_likelihood(system, params, state, batch["image"], keys, **options)
        where = batch["where"]
        found = {"negative_iwae": Nats.of(-bound, where), "error": Mean.of(jnp.square(error), where)}
        return evaluate(params, state, batch, key) | found

    def summarize_sums(sums: Mapping[str, Any]) -> dict[str, float]:
        ruler = summary(sums.get("negative_iwae", sums["negative_elbo"]), dims)
        negative_elbo, kl = summary(sums["negative_elbo"], dims)["nll_nats"], float(sums["kl"].value())
        found = {"elbo_nats": -negative_elbo, "reconstruction_nats": negative_elbo - kl, "kl_nats": kl}
        found["active_units"] = float(vae.active_units(sums["activity"]))
        if "negative_iwae" in sums:
            error = float(jnp.sqrt(sums["error"].value() / sums["error"].count))
            found |= {"iwae_nats": -ruler["nll_nats"], "iwae_nats_monte_carlo_error": error}
        return found | (ruler if system.likelihood.discrete else {})

    @functools.partial(jax.jit, static_argnums=3)
    def sample(params: Params, state: State, key: Key, num: int, temperature: Any = 1.0) -> jax.Array:
        return vae.sample_outputs(system, params, state, temperature * jax.random.normal(key, (num, *latent)))

    code = jax.ShapeDtypeStruct((1, *latent), jnp.float32)
    image = jax.ShapeDtypeStruct((1, *spec.shape), jnp.float32)
    fit = fit_by_gradient(
        make_objective(config, system, spec),
        config.train,
        config.optimizer,
        spec.sizes[0],
        ema=config.ema,
        init=lambda key, batch: vae.init(key, system, batch["image"]),
        preprocess=preprocess,
        evaluate=evaluate,
        evaluate_test=evaluate_test if config.iwae_samples else None,
        summarize=summarize_sums,
        monitor=("elbo_nats", "max"),
        describe=lambda: "\n".join([table(summarize(system.encoder, image)), table(summarize(system.decoder, code))]),
        ruler=likelihood("upper bound") if system.likelihood.discrete else {},
        sample=sample,
        sample_options=("temperature",),
    )

    def look(key: Key, data: Data, trained: Result) -> Findings:
        return Findings(panels=draw(config, system, preprocess, trained, data))

    return generative_system(
        "vae",
        fit,
        spec,
        look,
        quality_samples=config.quality_samples,
        code_lengths=functools.partial(code_lengths, config, preprocess) if system.likelihood.discrete else None,
    )


def code_lengths(config: Config, preprocess: Any, data: Data) -> dict[str, float]:
    """Model-free codes of the images as the likelihood sees them: binary for the Bernoulli one."""
    if config.likelihood != "bernoulli":
        return image_baselines(data)
    splits = [data.train.all()["image"], data.test.all()["image"]]
    rows = [{"image": x, "row": np.arange(len(x), dtype=np.int32)} for x in splits]
    binary = [np.asarray(preprocess(batch, key=None, train=False)["image"]).astype(np.uint8) for batch in rows]
    return baselines(*binary, 2)


def draw(config: Config, system: vae.VAE, preprocess: Any, trained: Result, data: Data) -> dict[str, Any]:
    """Reconstructions, samples, an interpolation and traversals on test images; the manifold of a 2-D code."""
    params, state = trained.params, trained.state
    chosen = np.arange(12) % data.test.size
    raw = {**data.test.read(chosen), "row": chosen.astype(np.int32)}
    x = preprocess(raw, key=None, train=False)["image"]
    mean, log_std, _ = vae.encode(system, params, state, x)
    decoded = jax.jit(lambda z: vae.sample_outputs(system, params, state, z))

    def images(z: Any) -> np.ndarray:
        return np.asarray(decoded(jnp.asarray(z, jnp.float32)))

    along = np.linspace(0, 1, 10)[:, None]
    lines = [(f"{i} to {i + 1}", images((1 - along) * mean[i] + along * mean[i + 1])) for i in range(0, 10, 2)]
    noise = jax.random.normal(jax.random.key(0), (64, config.latent))
    drawn = {
        "reconstructions": panel("images.rows", [("image", np.asarray(x)), ("mean of p(x|z)", images(mean))]),
        "samples": panel("images.sheet", images(noise), 8, "z ~ N(0, I)"),
        "interpolation": panel("images.rows", lines, "between the codes of two test images"),
        "traversals": traversals(images, np.asarray(mean), np.asarray(log_std)),
    }
    if config.latent == 2:
        drawn["manifold"] = manifold(images)
    return drawn


def traversals(images: Any, mean: np.ndarray, log_std: np.ndarray, most: int = 8) -> Any:
    """The first test image with one latent dimension moved from −3 to 3, for the dimensions that hold most."""
    kl = 0.5 * (np.exp(2 * log_std) + mean**2 - 1 - 2 * log_std).mean(0)
    lines = []
    for j in np.argsort(-kl)[:most]:
        z = np.repeat(mean[:1], 9, axis=0)
        z[:, j] = np.linspace(-3, 3, 9)
        lines.append((f"z{j}: {kl[j]:.1f} nats", images(z)))
    return panel("images.rows", lines, "one latent dimension from −3 to 3")


def manifold(images: Any, size: int = 16) -> Any:
    """Decoded means over the plane, at equal steps of probability under the prior."""
    ticks = np.asarray(jax.scipy.stats.norm.ppf((np.arange(size) + 0.5) / size))
    z = np.stack(np.meshgrid(ticks, -ticks), -1).reshape(-1, 2)
    title = "the decoder over the plane of codes"
    return panel("images.sheet", images(z), size, title, "quantiles of z0", "quantiles of z1")
