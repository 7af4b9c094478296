"""Denoising diffusion: a U-Net trained on L_simple, its bound on the likelihood, fast samplers, guidance (lecture 29).

./launch/local.sh train --experiment=diffusion --data=digits
./launch/local.sh train --experiment=diffusion --data=fashion_mnist
./launch/local.sh train --experiment=diffusion --data=digits --set=sampler=ancestral --set=guidance=2

`nll_nats` and `bits_per_dim` are an upper bound, estimated without bias. A class-conditional network bounds
−log p(x, y) = −log p(x|y) + log C, which lies above −log p(x): either way they are those of x alone.
"""

import functools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import report
from dlcore.data import Data, DataSpec, row_keys
from dlcore.evaluation import bits_per_dim
from dlcore.generative import decoder
from dlcore.generative.diffusion import bound, held_out, objective, sampling, schedule, weighting
from dlcore.networks import TimeUNet
from dlcore.nn import example, in_precision, padded, summarize, table
from dlcore.optim import OptimizerConfig
from dlcore.report.panel import panel
from dlcore.train import FEW, LoopConfig, Result, System, budget, density_system, signed_pixels
from dlcore.types import Batch, Key, Model, Params, State

PRESETS = ("smoke", "default", "full")


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    schedule: str = "cosine"
    """"linear", "cosine" or "sigmoid"."""
    steps: int = 1000
    """T, the steps of the forward process. Where grey levels are few, a first step far finer than their distance costs
    bits that only a network which rounds could save: the presets then take fewer."""
    prediction: str = "v"
    """What the network predicts: "eps", "x0" or "v"."""
    weighting: str = "uniform"
    """Weights of the times in the loss: "uniform", or "p2", 1/(k + SNR)^γ, which cares less for little noise."""
    p2_k: float = 1.0
    p2_gamma: float = 1.0
    variance: str = "beta"
    """σ_t² of the bound and of the ancestral sampler: "beta" or "posterior"."""
    widths: tuple[int, ...] = (32, 64)
    """Channels per resolution."""
    blocks: int = 1
    patch: int = 1
    """Pixels each way that make one position of the network."""
    heads: int = 4
    """Heads of the self-attention at the lowest resolution; 0 for none."""
    dropout: float = 0.0
    conditional: bool = True
    """Whether the network is told the class, of data that have classes."""
    label_dropout: float = 0.1
    sampler: str = "dpm"
    """"ancestral", "ddim" or "dpm"."""
    sample_steps: int = 25
    """Steps of the sampler; each takes one network evaluation, or two with guidance other than 0 and 1."""
    spacing: float = 1.0
    """Power of the steps' spacing; above 1 they lie closer near the data."""
    eta: float = 0.0
    """Noise of the sampler "ddim"."""
    guidance: float = 1.0
    """0 samples without classes, 1 with them, more than 1 exaggerates them."""
    eval_draws: int = 1
    """Times t per row in the bound at validation, beside t = 1."""
    test_draws: int = 4
    ema: float = 0.999
    dtype: str = "float32"
    """Compute precision: "float32" or "bfloat16"; params are float32 in any case."""
    quality_samples: int = 2048
    """Samples compared with real images after training; 0 for none."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    optimizer = OptimizerConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=200, floor=0.02, clip_norm=1.0)
    loop = functools.partial(budget, spec.sizes[0], restore_best=spec.sizes[0] < FEW)
    train = loop(batch_size=32, steps=8_590, every=4_295)
    base = Config(widths=(48, 96), patch=2, guidance=2.0, optimizer=optimizer, train=train)
    if max(spec.shape[:2]) <= 16:
        optimizer = replace(optimizer, learning_rate=2e-3, warmup_steps=50)
        train = loop(batch_size=64, steps=1_900, every=380)
        base = replace(base, widths=(32, 64), patch=1, guidance=1.0, optimizer=optimizer, train=train)
    if spec.levels is not None and spec.levels <= decoder.FEW_LEVELS:
        base = replace(base, steps=64)
    if name == "smoke":
        short = train.scaled(1 / 50, every=1 / 50)
        if max(spec.shape[:2]) <= 16:
            short, optimizer = train.scaled(1 / 2, every=1 / 2), replace(optimizer, learning_rate=4e-3)
        small = {"widths": (16, 32), "sample_steps": 10, "quality_samples": 0}
        return replace(base, **small, ema=0.99, optimizer=optimizer, train=short)
    if name == "full":
        wide = base.widths if max(spec.shape[:2]) <= 16 else (128, 256, 256)
        patch, blocks = (base.patch, 1) if wide is base.widths else (1, 2)
        longer = base.train.scaled(5 if wide is base.widths else 20)
        return replace(base, widths=wide, patch=patch, blocks=blocks, dropout=0.1, sample_steps=50, train=longer)
    return base


def make_network(config: Config, spec: DataSpec) -> Model:
    """The U-Net that `config` describes, for images like `spec`."""
    spec.need("diffusion", images=True)
    options = {"blocks": config.blocks, "patch": config.patch, "heads": config.heads, "dropout": config.dropout}
    network = TimeUNet(spec.shape[-1], config.widths, classes=classes_of(config, spec), **options)
    # Sides that cannot be halved are padded inside: any function of a noisy image may predict its noise.
    network = padded(network, config.patch * 2 ** (len(config.widths) - 1))
    return in_precision(network, config.dtype)


def classes_of(config: Config, spec: DataSpec) -> int:
    """How many classes the network is told; 0 for none."""
    return (spec.classes or 0) if config.conditional else 0


def make_sampler(config: Config, spec: DataSpec, network: Model, full: schedule.Schedule, *, keep: bool = False) -> Any:
    """`(params, state, key, num, label) -> x [num, h, w, c]` in [−1, 1], or with `keep` all of the path."""
    settings = {name: getattr(config, name) for name in ("sampler", "spacing", "variance", "eta", "guidance")}
    settings |= {"kind": config.prediction, "classes": classes_of(config, spec), "steps": config.sample_steps}
    return sampling.make_sample(network, full, spec.shape, **settings, keep=keep)


def make_sample(config: Config, spec: DataSpec, network: Model, full: schedule.Schedule) -> Any:
    """`(params, state, key, num, **options) -> images`; options are settings of `config`, and one `label` for all."""
    names = {"steps": "sample_steps", "sampler": "sampler", "eta": "eta", "guidance": "guidance"}
    usual = make_sampler(config, spec, network, full)

    def sample(params: Params, state: State, key: Key, num: int, *, label: int | None = None, **options: Any) -> Any:
        chosen = replace(config, **{names[name]: value for name, value in options.items()})
        if "eta" in options and chosen.sampler != "ddim":
            raise ValueError(f"eta={chosen.eta} belongs to sampler=ddim, and the sampler is {chosen.sampler}")
        if label is not None and chosen.guidance == 0:
            raise ValueError(f"label={label} has no effect with guidance=0, which samples without classes")
        draw_samples = make_sampler(chosen, spec, network, full) if options else usual
        labels = {} if label is None else {"label": jnp.full(num, label)}
        return to_pixels(draw_samples(params, state, key, num, **labels))

    return sample


def to_pixels(x: Any) -> Any:
    """[−1, 1] to [0, 1]."""
    return jnp.clip((x + 1) / 2, 0.0, 1.0)


def build(config: Config, spec: DataSpec) -> System:
    """Compose network, process, optimiser, held-out bound, samples and figures."""
    network, full = make_network(config, spec), schedule.by_name(config.schedule, config.steps)
    dims, classes = math.prod(spec.shape), classes_of(config, spec)
    like = [example(spec.shape), *[example((), jnp.int32)] * (2 if classes else 1)]
    labels = {"labels": "label", "null": classes, "drop": config.label_dropout} if classes else {}
    weigh = weighting.named(config.weighting, k=config.p2_k, gamma=config.p2_gamma)
    loss = objective.simple(network, full, kind=config.prediction, weighting=weigh, **labels)
    draws = {"draws": config.eval_draws, "test_draws": config.test_draws}
    reverse = bound.Reverse(full, config.prediction, config.variance, clip=1.0, levels=spec.levels)
    measure = held_out.held_out(network, reverse, weigh(full), row_keys, dims=dims, classes=classes, **draws)

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        shown = batch["image"], jnp.ones(len(batch["image"]), jnp.int32)
        return network.init(key, *shown, *((batch["label"],) if classes else ()))

    return density_system(
        "diffusion",
        loss,
        config,
        spec,
        functools.partial(draw, config, network, reverse),
        kind="upper bound",
        init=init,
        preprocess=signed_pixels(spec),
        **measure._asdict(),
        monitor=("loss", "min"),
        describe=lambda: table(summarize(network, *like)),
        sample=make_sample(config, spec, network, full),
        sample_options=("steps", "sampler", "eta", *(("label", "guidance") if classes else ())),
    )


def draw(config: Config, network: Model, reverse: bound.Reverse, trained: Result, data: Data) -> dict[str, Any]:
    """A sheet of samples, how some came out of noise, the schedules, and losses by time on test images."""
    spec, full, params, state = data.spec, reverse.schedule, trained.params, trained.state
    path = make_sampler(config, spec, network, full, keep=True)(params, state, jax.random.key(0), 60)
    title = f"{config.sampler}, {config.sample_steps} steps, guidance {config.guidance:g}"
    curves = {name: schedule.by_name(name, config.steps).alpha_bar for name in ("linear", "cosine", "sigmoid")}
    rows = signed_pixels(spec)(data.test.first(200), key=None, train=False)
    given = (jnp.asarray(rows["label"]),) if classes_of(config, spec) else ()
    predict = lambda x, t: network.apply(params, state, x, t, *given)[0]  # noqa: E731
    some = np.unique(np.geomspace(1, config.steps, 16).round().astype(int))
    x = jnp.asarray(rows["image"])
    errors, terms = held_out.by_time(reverse, predict, x, some, key=jax.random.key(0))
    times = schedule.respace(full, config.sample_steps, config.spacing).time
    return {
        **report.diffusion.from_noise(np.asarray(to_pixels(path)), times, title),
        "schedules": panel("diffusion.schedules", curves, config.schedule),
        "loss_by_time": panel("diffusion.by_time", some, errors, bits_per_dim(terms, math.prod(spec.shape))),
    }
