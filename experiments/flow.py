"""Normalising flow: exact densities of points, bounds on bits/dim of images, samples (lecture 28).

./launch/local.sh train --experiment=flow --data=digits
./launch/local.sh train --experiment=flow --data=fashion_mnist
./launch/local.sh train --experiment=flow --data=two_moons
./launch/local.sh train --experiment=flow --data=digits --set=coupling=spline --set=dequantization=variational

Grey levels are dequantised by noise, uniform or learned, drawn anew at every step of training and by row for held-out
images: `bits_per_dim` and `nll_nats` of the discrete image are upper bounds in expectation. `round_trip_error` is
the mean over test images of max |x − f⁻¹(f(x))|, pixels in [0, 1].

Sides that 2^scales does not divide get black pixels at the right and below. The flow pays for these in nats, so that
the bound stays one: P(image) is at least P(image with its border). They do not count as dimensions.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.data import Data, DataSpec, row_keys
from dlcore.evaluation import Nats, bits_per_dim, summary
from dlcore.generative import flow
from dlcore.generative.flow import (
    AffineCoupling,
    Dequantizer,
    Glow,
    Logit,
    RealNVP,
    affine,
    alternating,
    chain,
    density,
    dequantize,
    discrete_nats,
    quantize,
    rational_quadratic,
)
from dlcore.networks import ConvConditioner, MLPConditioner
from dlcore.nn import crop_sides, pad_sides, padded_sides
from dlcore.optim import OptimizerConfig
from dlcore.report.density import grid, square
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
from dlcore.tree import named_leaves
from dlcore.types import Aux, Batch, Bijector, Key, Mean, Model, Objective, Params, State

PRESETS = ("smoke", "default", "full", "real_nvp")


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    flow: str = "glow"
    """"glow" or "real_nvp"."""
    scales: int = 2
    """How often an image is squeezed."""
    steps: int = 4
    """Steps per scale; points have one scale."""
    widths: tuple[int, ...] = (32, 64)
    """Channels of the convolutional conditioners, one number per scale; hidden widths of the dense ones for points."""
    blocks: int = 1
    """Residual blocks per convolutional conditioner."""
    activation: str = "silu"
    """Smooth by default, as in classify."""
    mix: str = "plu"
    """Mixing of the channels in Glow: "plu", "plain" or "reverse"."""
    factor_out: bool = True
    """Whether half of Glow's channels leave after each scale."""
    coupling: str = "affine"
    """"affine" or "spline" (rational-quadratic)."""
    bound: float = 2.0
    """Largest |log-scale| of one affine coupling."""
    bins: int = 8
    """Bins of a spline, on [−4, 4]."""
    dequantization: str = "uniform"
    """"uniform", or "variational": the noise is a flow given the image, trained with the density on one bound."""
    noise_steps: int = 4
    """Checkerboard couplings of that flow, of the width of the first scale."""
    alpha: float = 0.05
    """Pixels become logit(α + (1 − 2α) y)."""
    temperature: float = 1.0
    """Of the samples."""
    ema: float = 0.0
    quality_samples: int = 2048
    """Samples compared with real images after training; 0 for none."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    optimizer = OptimizerConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=100)
    loop = functools.partial(budget, spec.sizes[0], restore_best=spec.sizes[0] < FEW)
    train = loop(batch_size=32, steps=17_180, every=3_436)
    base = Config(
        steps=8, blocks=0, factor_out=False, activation="relu", alpha=0.01, ema=0.999, optimizer=optimizer, train=train
    )
    if len(spec.shape) == 1:
        train = loop(batch_size=256, steps=3_900, every=780)
        base = Config(flow="real_nvp", steps=8, widths=(64, 64), ema=0.999, optimizer=optimizer, train=train)
    elif max(spec.shape[:2]) <= 16:
        train = loop(batch_size=64, steps=1_140, every=190)
        base = Config(widths=(32, 32), factor_out=False, alpha=0.01, ema=0.998, optimizer=optimizer, train=train)
    if name == "smoke":
        short = base.train.scaled(1 / 6, every=1 / 2)
        brief = replace(optimizer, warmup_steps=20)
        return replace(base, steps=2, ema=0.0, quality_samples=0, optimizer=brief, train=short)
    if name == "full":
        return replace(base, steps=2 * base.steps, train=base.train.scaled(4))
    if name == "real_nvp":
        return replace(base, flow="real_nvp")
    return base


def shape_of(config: Config, spec: DataSpec) -> tuple[int, ...]:
    """What the flow transforms: points, or images with sides that can be halved `scales` times."""
    if config.scales < 1:
        raise ValueError(f"scales must be at least 1, got {config.scales}")
    return padded_sides(spec.shape, 2**config.scales) if len(spec.shape) == 3 else spec.shape


def make_flow(config: Config, spec: DataSpec, *, conditional: bool = False) -> Bijector:
    """The bijection that `config` names, of pixels in [0, 1] or of points; a `conditional` one takes a class [b, c]."""
    image, whole = len(spec.shape) == 3, shape_of(config, spec)
    if image and spec.levels is None:
        raise ValueError(f"flow needs grey levels or points, and {spec.name} has neither; use digits, for instance")
    if image and len(config.widths) != config.scales:
        raise ValueError(f"widths={config.widths} must have one number for each of scales={config.scales}")

    def conditioner(shape: Sequence[int], outputs: int) -> Model:
        if not image:
            return MLPConditioner(config.widths, outputs, activation=config.activation, conditional=conditional)
        # The checkerboard couplings of RealNVP come before the first squeeze.
        scale = max(round(math.log2(whole[0] / shape[0])) - 1, 0)
        options = {"blocks": config.blocks, "activation": config.activation, "conditional": conditional}
        return ConvConditioner(config.widths[scale], outputs, **options)

    transforms = {"affine": lambda: affine(config.bound), "spline": lambda: rational_quadratic(config.bins)}
    if config.coupling not in transforms:
        raise ValueError(f"coupling must be one of {', '.join(transforms)}, got {config.coupling!r}")
    shared = {"scales": config.scales, "steps": config.steps, "conditional": conditional}
    shared["transform"] = transforms[config.coupling]()
    makers = {
        "glow": lambda: Glow(whole, conditioner, mix=config.mix, factor_out=config.factor_out, **shared),
        "real_nvp": lambda: RealNVP(whole, conditioner, **shared),
    }
    if config.flow not in makers:
        raise ValueError(f"flow must be one of {', '.join(makers)}, got {config.flow!r}")
    body = makers[config.flow]()
    return chain(logit=Logit(config.alpha), body=body) if image else body


def make_dequantizer(config: Config, spec: DataSpec) -> Dequantizer:
    """The noise that `config` names; a learned one is made by couplings that see the image."""
    if config.dequantization == "uniform":
        return flow.uniform()
    if config.dequantization != "variational" or spec.levels is None:
        got = f"{config.dequantization!r} for {spec.name}"
        raise ValueError(f"dequantization must be uniform, or for images variational, got {got}")

    def couple(shape: Sequence[int], mask: str, flip: bool) -> Bijector:
        options = {"blocks": config.blocks, "activation": config.activation, "conditional": True}
        network = ConvConditioner(config.widths[0], 2 * shape[-1], **options)
        return AffineCoupling(network, mask=mask, flip=flip, bound=config.bound, conditional=True)

    noise = alternating(shape_of(config, spec), couple, config.noise_steps, "checkerboard")
    return flow.variational(noise, spec.levels)


def make_preprocess(config: Config, spec: DataSpec) -> Any:
    """Points as they are, images with sides that can be halved; dequantisation belongs to the objective."""

    def preprocess(batch: Batch, *, key: Key | None, train: bool) -> Batch:
        if len(spec.shape) == 1:
            return batch
        return {**batch, "image": pad_sides(batch["image"], 2**config.scales)}

    return preprocess


def make_objective(bijector: Bijector, spec: DataSpec, dequantizer: Dequantizer | None = None) -> Objective:
    """The negative log-likelihood; its `bits_per_dim` is per dimension of the image without the added border."""
    target, dims = "image" if spec.levels else "point", math.prod(spec.shape)
    options = {"levels": spec.levels, "dequantizer": dequantizer}
    objective = density.negative_log_likelihood(bijector, target=target, **options)

    def per_pixel(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: jax.Array | None = None
    ) -> tuple[jax.Array, Aux]:
        loss, aux = objective(params, state, batch, key=key, train=train)
        nats = aux.metrics["loss"]
        bits = {"bits_per_dim": Mean(bits_per_dim(nats.total, dims), nats.count)} if spec.levels else {}
        return loss, Aux(aux.state, {**aux.metrics, **bits})

    return per_pixel


def build(config: Config, spec: DataSpec) -> System:
    """Compose flow, likelihood, optimiser, held-out bounds, samples and figures."""
    bijector, noise = make_flow(config, spec), make_dequantizer(config, spec)
    levels, dims = spec.levels, math.prod(spec.shape)
    target, whole = "point" if levels is None else "image", shape_of(config, spec)

    def values(params: Params, batch: Batch, key: Key) -> tuple[jax.Array, Any]:
        """What the flow sees of a batch, and the log-density of the noise in it."""
        if levels is None:
            return batch[target], 0.0
        keys = row_keys(key, batch["row"])
        u, log_q = flow.by_row(noise, keys, params.get("dequantizer", {}), batch[target])
        return dequantize(batch[target], u, levels), log_q

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        x, start = batch[target], jax.random.fold_in(key, 0)
        y = x if levels is None else dequantize(x, jax.random.uniform(start, x.shape), levels)
        learned = noise.init(jax.random.fold_in(key, 2), x)
        params = bijector.init(jax.random.fold_in(key, 1), y)
        return {**params, "dequantizer": learned} if learned else params, {}

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        y, log_q = values(params, batch, key)
        log_density = density.log_prob(bijector, params, y) - log_q
        nats = -log_density if levels is None else discrete_nats(log_density, math.prod(whole), levels)
        return {"nats": Nats.of(nats, batch["where"])}

    def evaluate_test(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        error = density.round_trip_error(bijector, params, values(params, batch, key)[0])
        return evaluate(params, state, batch, key) | {"error": Mean.of(error, batch["where"])}

    def summarize(sums: Mapping[str, Any]) -> dict[str, float]:
        found = {"round_trip_error": float(sums["error"].value())} if "error" in sums else {}
        ruler = summary(sums["nats"], dims)
        # The density of points has nats but no bits per grey level.
        return {name: value for name, value in ruler.items() if levels or "bits" not in name} | found

    @functools.partial(jax.jit, static_argnums=3)
    def draw_samples(params: Params, key: Key, temperature: float, num: int) -> jax.Array:
        y = density.sample(key, bijector, params, (num, math.prod(whole)), temperature=temperature)
        return y if levels is None else crop_sides(quantize(y, levels), *spec.shape[:2])

    def sample(params: Params, state: State, key: Key, num: int, temperature: float = config.temperature) -> jax.Array:
        return draw_samples(params, key, temperature, num)

    fit = fit_by_gradient(
        make_objective(bijector, spec, noise),
        config.train,
        config.optimizer,
        spec.sizes[0],
        ema=config.ema,
        init=init,
        preprocess=make_preprocess(config, spec),
        evaluate=evaluate,
        evaluate_test=evaluate_test,
        summarize=summarize,
        monitor=("nll_nats", "min"),
        describe=lambda: describe(bijector, whole),
        ruler=likelihood("upper bound") if levels else {},
        sample=sample,
        sample_options=("temperature",),
    )

    def look(key: Key, data: Data, trained: Result) -> Findings:
        drawn = draw if levels else draw_points
        return Findings(panels=drawn(config, bijector, trained.params, data, sample))

    quality = config.quality_samples if levels else 0
    lengths = image_baselines if levels else None
    return generative_system("flow", fit, spec, look, quality_samples=quality, code_lengths=lengths)


def describe(bijector: Bijector, shape: Sequence[int]) -> str:
    """Parameters of every branch two levels down."""
    params = jax.eval_shape(bijector.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    counts: dict[str, int] = {}
    for path, leaf in named_leaves(params):
        name = path.rsplit("/", 1)[0]
        counts[name] = counts.get(name, 0) + math.prod(leaf.shape)
    width = max(map(len, counts))
    return "\n".join(
        f"{name:<{width}}  {count:>10,}" for name, count in {**counts, "(all)": sum(counts.values())}.items()
    )


def draw(config: Config, bijector: Bijector, params: Params, data: Data, sample: Any) -> dict[str, Any]:
    """Samples at several temperatures, and lines through latent space between test images."""
    levels, sides = data.spec.levels, data.spec.shape[:2]
    forward = jax.jit(lambda y: bijector.forward(params, y)[0])
    inverse = jax.jit(lambda z: crop_sides(quantize(bijector.inverse(params, z)[0], levels), *sides))
    at = {f"T = {t}": np.asarray(sample(params, {}, jax.random.key(0), 12, t)) for t in (0.5, 0.7, 0.85, 1.0)}
    x = pad_sides(jnp.asarray(data.test.read(np.arange(12) % data.test.size)["image"]), 2**config.scales)
    z = np.asarray(forward(dequantize(x, jnp.full(x.shape, 0.5), levels)))
    along = np.linspace(0, np.pi / 2, 10)[:, None]
    # Great circles keep the norm that a high-dimensional normal vector has.
    lines = [
        (f"{i} to {i + 1}", np.asarray(inverse(np.cos(along) * z[i] + np.sin(along) * z[i + 1])))
        for i in range(0, 10, 2)
    ]
    return {
        "samples": panel("images.rows", list(at.items()), "the same noise at several temperatures"),
        "interpolation": panel("images.rows", lines, "between two test images on a great circle of latent space"),
    }


def draw_points(config: Config, bijector: Bijector, params: Params, data: Data, sample: Any) -> dict[str, Any]:
    """Data, density and samples in the plane."""
    if data.spec.shape != (2,):
        return {}
    log_density = jax.jit(lambda x: density.log_prob(bijector, params, x))
    points = data.test.read(np.arange(data.test.size))["point"]
    drawn = np.asarray(sample(params, {}, jax.random.key(0), 2000))
    low, high = square(points)
    values = np.exp(np.asarray(log_density(jnp.asarray(grid(low, high, 200), jnp.float32)))).reshape(200, 200)
    return {"density": panel("density.density_and_samples", low, high, values, points, drawn, title=data.spec.name)}
