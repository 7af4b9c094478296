"""PixelCNN: exact likelihoods of images pixel by pixel, cached sampling, completion of half images (lecture 26).

./launch/local.sh train --experiment=pixelcnn --data=digits
./launch/local.sh train --experiment=pixelcnn --data=fashion_mnist
./launch/local.sh train --experiment=pixelcnn --data=fashion_mnist --set=conditional=false
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
from dlcore.data import Data, DataSpec, scale
from dlcore.evaluation import Nats, summary
from dlcore.generative import autoregressive, decoder
from dlcore.generative.likelihoods import pixel_head
from dlcore.networks import GatedPixelCNN, PixelCNN, PixelNetwork
from dlcore.nn import example, in_precision, summarize, table
from dlcore.optim import OptimizerConfig
from dlcore.report.panel import panel
from dlcore.train import FEW, LoopConfig, Result, System, budget, density_system, unit_pixels
from dlcore.types import Batch, Key, Params, State

PRESETS = ("smoke", "default", "full", "masked")


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    model: str = "gated"
    """"gated" (two stacks, cached sampling) or "masked" (one stack of masked convolutions)."""
    features: int = 64
    windows: tuple[int, ...] = (7, 3, 3)
    """Window of every layer, odd."""
    dilations: tuple[int, ...] = ()
    """Distance of the taps of every layer of the gated network; empty for 1."""
    hidden: int = 0
    """Features of the gated network's head; 0 for twice `features`."""
    head: str = "mixture"
    """"mixture" of discretised logistics for each colour, "colour_mixture" whose logistics the colours of a pixel share
    (green given red, blue given both; the network then sees whole pixels), or "categorical" over all grey levels."""
    components: int = 10
    """Logistics in the mixture."""
    conditional: bool = False
    """Whether the class is given: the likelihood is that of p(x | y), and −log p(x) at most log(classes) above it."""
    ema: float = 0.0
    dtype: str = "float32"
    """Compute precision: "float32" or "bfloat16"; params are float32 in any case."""
    quality_samples: int = 2048
    """Samples compared with real images after training; 0 for none."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    optimizer = OptimizerConfig(learning_rate=2e-3, schedule="cosine", warmup_steps=200, clip_norm=1.0)
    # Four images are 3,136 predictions: steps count more than their precision.
    loop = functools.partial(budget, spec.sizes[0], restore_best=spec.sizes[0] < FEW)
    train = loop(batch_size=4, steps=24_062, every=12_031)
    # The features are cut into one group per colour.
    common = {"features": -(-32 // spec.shape[-1]) * spec.shape[-1], "ema": 0.9995}
    if max(spec.shape[:2]) <= 16:
        optimizer = replace(optimizer, learning_rate=3e-3, warmup_steps=50)
        train = loop(batch_size=64, steps=1_140, every=190)
        head = "categorical" if (spec.levels or 0) <= decoder.FEW_LEVELS else "mixture"
        base = Config(windows=(5, 3, 3), head=head, optimizer=optimizer, train=train, **common)
    else:
        layers = {"windows": (11, 3, 3, 3), "dilations": (1, 1, 2, 4), "components": 5}
        base = Config(conditional=bool(spec.classes), optimizer=optimizer, train=train, **layers, **common)
    if name == "smoke":
        return replace(base, quality_samples=0, train=base.train.scaled(1 / 10, every=0))
    if name == "full":
        return replace(base, train=base.train.scaled(4))
    if name == "masked":
        # It has no cached sampling: a sheet of samples once, and no comparison of thousands.
        plain = {"model": "masked", "conditional": False, "dilations": (), "features": 2 * base.features}
        return replace(base, **plain, quality_samples=0, train=base.train.scaled(1, every=0))
    return base


def make_network(config: Config, spec: DataSpec) -> tuple[PixelNetwork, decoder.Likelihood]:
    """The causal network and the likelihood of a sub-pixel that `config` names, for images like `spec`."""
    spec.need("pixelcnn", images=True)
    head = pixel_head(config.head, spec.levels, spec.shape[-1], components=config.components)
    if config.dilations and config.model == "masked":
        raise ValueError("dilations belong to model=gated, and model is masked")
    if config.conditional and not (spec.classes and config.model == "gated"):
        raise ValueError("conditional=true needs labelled data and model=gated")
    # Masks order the colours of a pixel, or hide all of it from itself.
    colours = 1 if head.joint else spec.shape[-1]
    per_colour = 2 * colours if config.model == "masked" else colours
    if config.features % per_colour:
        raise ValueError(
            f"features={config.features} must be a multiple of {per_colour} for model={config.model} on images of "
            f"{colours} colours; use {-(-config.features // per_colour) * per_colour}"
        )
    if config.hidden % colours:
        raise ValueError(f"hidden={config.hidden} must be a multiple of the {colours} colours")
    options = {"colours": colours, "features": config.features}
    if config.model == "masked":
        first, *rest = config.windows
        network = PixelCNN(head.channels, first=first, windows=rest, **options)
    elif config.model == "gated":
        options |= {"windows": config.windows, "dilations": config.dilations, "hidden": config.hidden}
        network = GatedPixelCNN(head.channels, classes=classes_of(config, spec), **options)
    else:
        raise ValueError(f"model must be gated or masked, got {config.model!r}")
    return network._replace(model=in_precision(network.model, config.dtype)), head


def classes_of(config: Config, spec: DataSpec) -> int:
    """How many classes the network is told; 0 for none."""
    return (spec.classes or 0) if config.conditional else 0


def build(config: Config, spec: DataSpec) -> System:
    """Compose network, exact likelihood, optimiser, sampler and figures."""
    network, head = make_network(config, spec)
    dims = math.prod(spec.shape)
    objective = autoregressive.negative_log_likelihood(
        network.model, head, label="label" if config.conditional else None
    )

    def labels(batch: Batch) -> tuple[Any, ...]:
        return (batch["label"],) if config.conditional else ()

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Mapping[str, Any]:
        nats = autoregressive.nll(network.model, head, params, state, batch["image"], *labels(batch))
        return {"nll": Nats.of(nats, batch["where"])}

    sample = autoregressive.make_sample(network, head, spec.shape, classes=classes_of(config, spec))
    inputs = (example(spec.shape), *([example((), jnp.int32)] if config.conditional else []))
    return density_system(
        "pixelcnn",
        objective,
        config,
        spec,
        functools.partial(draw, config, network, head, sample),
        kind="exact",
        of="x given label" if config.conditional else "x",
        init=lambda key, batch: network.model.init(key, batch["image"], *labels(batch)),
        preprocess=unit_pixels(spec),
        evaluate=evaluate,
        summarize=lambda sums: summary(sums["nll"], dims),
        monitor=("nll_nats", "min"),
        describe=lambda: table(summarize(network.model, *inputs)),
        sample=sample,
        sample_options=("temperature", *(("label",) if config.conditional else ())),
    )


def draw(
    config: Config, network: PixelNetwork, head: decoder.Likelihood, sample: Any, trained: Result, data: Data
) -> dict[str, Any]:
    """Samples, completions of lower halves, and what the network looks at beside a stack of masked convolutions."""
    params, state = trained.params, trained.state
    drawn = {
        "samples": panel("images.sheet", np.asarray(sample(params, state, jax.random.key(0), 64)), 8, "samples"),
        "receptive_field": receptive_field(network, config, params, state, data.spec),
    }
    if network.pixel is not None:
        rows = data.test.read(np.arange(10) % data.test.size)
        images = scale(jnp.asarray(rows["image"]), data.spec.levels)
        known = network, head, params, images, *((jnp.asarray(rows["label"]),) if config.conditional else ())
        drawn["completions"] = report.images.completions(images, *autoregressive.completions(*known))
    return drawn


def receptive_field(network: PixelNetwork, config: Config, params: Params, state: State, spec: DataSpec) -> Any:
    """Influence on the centre pixel: of this network, and of untrained stacks of four masked or gated 3×3 layers."""
    height, width, colours = spec.shape
    site = (height // 2, width // 2)
    features = 16 * colours
    stacks = {
        "four masked 3×3: blind spot": PixelCNN(1, colours=colours, features=features, first=3, windows=(3, 3, 3)),
        "four gated 3×3: none": GatedPixelCNN(1, colours=colours, features=features, windows=(3, 3, 3, 3)),
    }
    x = jax.random.normal(jax.random.key(0), (1, *spec.shape))
    label = (jnp.zeros(1, jnp.int32),) if config.conditional else ()

    def influence(model: Any, params: Params, state: State, *label: Any) -> np.ndarray:
        output = lambda x: jnp.abs(model.apply(params, state, x, *label)[0][0, *site]).sum()  # noqa: E731
        return np.asarray(jax.jit(lambda x: jnp.abs(jax.grad(output)(x)[0]).max(-1))(x))

    found = {"this network": influence(network.model, params, state, *label)}
    for name, stack in stacks.items():
        found[name] = influence(stack.model, *jax.jit(stack.model.init)(jax.random.key(1), x))
    return panel("receptive.maps", found, site, "gradient of the marked pixel's prediction (grey: exactly none)")
