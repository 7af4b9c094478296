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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import report
from dlcore.data import Data, DataSpec, row_keys
from dlcore.generative import flow
from dlcore.generative.flow import (
    Dequantizer,
    Logit,
    chain,
    density,
    dequantize,
    held_out,
    quantize,
)
from dlcore.networks import ConvConditioner, MLPConditioner
from dlcore.nn import branch_table, crop_sides, pad_sides, padded_sides
from dlcore.optim import OptimizerConfig
from dlcore.report import latent
from dlcore.train import FEW, LoopConfig, Result, System, budget, density_system, even_images
from dlcore.types import Bijector, Key, Model, Params, State

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
    permutation: str = "plu"
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

    transform = flow.transform_by_name(config.coupling, bound=config.bound, bins=config.bins)
    options = {"scales": config.scales, "steps": config.steps, "transform": transform, "conditional": conditional}
    options |= {"permutation": config.permutation, "factor_out": config.factor_out}
    body = flow.by_name(config.flow, whole, conditioner, **options)
    return chain(logit=Logit(config.alpha), body=body) if image else body


def make_dequantizer(config: Config, spec: DataSpec) -> Dequantizer:
    """The noise that `config` names; a learned one is made by couplings that see the image."""
    if config.dequantization == "uniform":
        return flow.uniform()
    if config.dequantization != "variational" or spec.levels is None:
        got = f"{config.dequantization!r} for {spec.name}"
        raise ValueError(f"dequantization must be uniform, or for images variational, got {got}")

    def conditioner(shape: Sequence[int], outputs: int) -> Model:
        options = {"blocks": config.blocks, "activation": config.activation, "conditional": True}
        return ConvConditioner(config.widths[0], outputs, **options)

    noise = flow.checkerboard(shape_of(config, spec), conditioner, config.noise_steps, bound=config.bound)
    return flow.variational(noise, spec.levels)


def build(config: Config, spec: DataSpec) -> System:
    """Compose flow, likelihood, optimiser, held-out bounds, samples and figures."""
    bijector, noise = make_flow(config, spec), make_dequantizer(config, spec)
    levels, dims = spec.levels, math.prod(spec.shape)
    target, whole = "point" if levels is None else "image", shape_of(config, spec)
    example = jax.ShapeDtypeStruct((1, *whole), jnp.float32)
    measure = held_out.held_out(bijector, noise, row_keys, target=target, levels=levels, dims=dims)
    options = {"target": target, "levels": levels, "dequantizer": noise, "dims": dims}

    @functools.partial(jax.jit, static_argnums=3)
    def sample(params: Params, state: State, key: Key, num: int, temperature: Any = config.temperature) -> jax.Array:
        y = density.sample(key, bijector, params, (num, math.prod(whole)), temperature=temperature)
        return y if levels is None else crop_sides(quantize(y, levels), *spec.shape[:2])

    return density_system(
        "flow",
        density.negative_log_likelihood(bijector, **options),
        config,
        spec,
        functools.partial(draw, config, bijector, sample),
        kind="upper bound" if levels else "",
        init=lambda key, batch: (held_out.init(key, bijector, noise, batch[target], levels), {}),
        preprocess=even_images(2**config.scales),
        **measure._asdict(),
        monitor=("nll_nats", "min"),
        describe=lambda: branch_table(jax.eval_shape(bijector.init, jax.random.key(0), example)),
        sample=sample,
        sample_options=("temperature",),
    )


def draw(config: Config, bijector: Bijector, sample: Any, trained: Result, data: Data) -> dict[str, Any]:
    """Samples at several temperatures, and lines through latent space between test images; or points in the plane."""
    if data.spec.levels is None:
        return draw_points(bijector, sample, trained, data)
    params, levels, sides = trained.params, data.spec.levels, data.spec.shape[:2]
    forward = jax.jit(lambda y: bijector.forward(params, y)[0])
    inverse = jax.jit(lambda z: crop_sides(quantize(bijector.inverse(params, z)[0], levels), *sides))
    x = pad_sides(jnp.asarray(data.test.read(np.arange(12) % data.test.size)["image"]), 2**config.scales)
    z = np.asarray(forward(dequantize(x, jnp.full(x.shape, 0.5), levels)))
    at = lambda t, count: np.asarray(sample(params, {}, jax.random.key(0), count, t))  # noqa: E731
    return {
        "samples": latent.temperatures(at, "the same noise at several temperatures"),
        "interpolation": latent.circles(inverse, z),
    }


def draw_points(bijector: Bijector, sample: Any, trained: Result, data: Data) -> dict[str, Any]:
    """Data, density and samples in the plane."""
    if data.spec.shape != (2,):
        return {}
    log_density = jax.jit(lambda x: density.log_prob(bijector, trained.params, x))
    points, drawn = data.test.all()["point"], np.asarray(sample(trained.params, {}, jax.random.key(0), 2000))
    return {"density": report.density.in_the_plane(log_density, points, drawn, data.spec.name)}
