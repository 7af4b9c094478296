"""Autoencoders: plain, linear, sparse, k-sparse, contractive, denoising (lecture 19, 21.1–21.3).

./launch/local.sh train --experiment=autoencoder --data=digits
./launch/local.sh train --experiment=autoencoder --data=fashion_mnist --preset=denoising

Pixels lie in [0, 1]. `mse` is the mean over all test images and pixels of the squared error, `psnr` is −10 log₁₀ of it
(in dB, of the pooled error). A denoiser is judged by what it makes of the noisy test images, each with noise of its own
that never changes: `mse` and `psnr` are those of its outputs against the clean images, `psnr_gain` is the difference to
`psnr_noisy`, and `mse_clean` is its error when it is shown the clean images.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.data import Data, DataSpec, labels_of, row_keys, scale
from dlcore.evaluation import psnr
from dlcore.generative import autoencoder, code_penalty
from dlcore.lookup import lookup
from dlcore.losses import absolute_error, sigmoid_cross_entropy, squared_error
from dlcore.networks import coders, mirrored_ties
from dlcore.nn import by_row, corruption, example, tables
from dlcore.optim import OptimizerConfig
from dlcore.report.panel import panel
from dlcore.train import LoopConfig, Result, System, budget, fit_by_gradient, gallery, unit_pixels
from dlcore.types import Batch, Key, Mean, Params, State

PRESETS = ("smoke", "default", "full", "linear", "tied", "sparse", "k_sparse", "contractive", "denoising", "conv")
LOSSES = {"l2": squared_error, "l1": absolute_error, "bce": sigmoid_cross_entropy}
LADDER = (0.25, 0.5, 1.0, 1.5, 2.0)
"""Strengths of the denoising ladder, times the one that was trained on."""


@dataclass(frozen=True)
class Config:
    """All that defines a run, beside data and seed."""

    model: str = "mlp"
    """"mlp"; "conv", with a dense code; or "map", convolutional with a map of codes."""
    widths: tuple[int, ...] = (512, 256)
    """Hidden widths, or channels, of the encoder; the decoder has them in reverse. None makes one layer each."""
    latent: int = 32
    """Units of the code, of a map at each place; more than there are pixels make it over-complete."""
    patch: int = 4
    """Of a map: pixels each way that make one place."""
    activation: str = "relu"
    """Of the hidden layers."""
    code: str = "linear"
    """Activation of the code: "linear", "sigmoid", "relu", …"""
    tied: bool = False
    """Whether the decoder's kernels are the encoder's transposed; of the MLP."""
    loss: str = "l2"
    """"l2", "l1", or "bce", the cross-entropy of pixels and outputs that are logits; summed over an image."""
    corruption: str = "none"
    """What the encoder sees in training: "none", "gaussian", "masking" or "salt_and_pepper"."""
    level: float = 0.5
    """σ of Gaussian noise, or the fraction of pixels that is masked or made black or white."""
    l1: float = 0.0
    """Weight of Σ_j |h_j|."""
    kl: float = 0.0
    """Weight of Σ_j KL(ρ ‖ mean of h_j over the batch), for a sigmoid code."""
    rho: float = 0.05
    """ρ, the mean that the KL penalty asks of every unit."""
    keep: int = 0
    """Units that are not set to 0 in a k-sparse code; 0 keeps all."""
    contractive: float = 0.0
    """Weight of ‖∂h/∂x‖_F²."""
    threshold: float = 0.0
    """A unit is on where |h| is above it, and dead if it never is: 0 is for rectified codes."""
    ema: float = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: LoopConfig = field(default_factory=LoopConfig)


def preset(name: str, spec: DataSpec) -> Config:
    """The configuration of a preset for data like `spec`."""
    small = max(spec.shape) <= 16
    optimizer = OptimizerConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=100)
    size, steps = (64, 3_000) if small else (128, 8_580)
    train = budget(spec.sizes[0], batch_size=size, steps=steps, every=steps // 10)
    base = Config(widths=(128,) if small else (512, 256), latent=16 if small else 32, optimizer=optimizer, train=train)
    units, single = (64 if small else 256), replace(base, widths=())
    dense = {"widths": (256,), "latent": units}
    mapped = {
        "model": "map",
        "widths": (64, 64),
        "latent": 64,
        "optimizer": replace(optimizer, learning_rate=2e-3),
        "train": budget(spec.sizes[0], batch_size=64, steps=6_503, every=650),
    }
    # Tied, the linear one converges sooner, and the contractive one cannot shrink its encoder and grow its decoder.
    return {
        "smoke": replace(base, train=train.scaled(1 / 10, 1 / 2) if small else train.scaled(1 / 50, 1 / 10)),
        "default": base,
        "full": replace(base, widths=(256,) if small else (1024, 512), ema=0.999, train=train.scaled(4)),
        "linear": replace(single, tied=True, optimizer=replace(optimizer, learning_rate=5e-3)),
        "tied": replace(base, tied=True),
        "sparse": replace(single, latent=units, code="sigmoid", kl=0.3 if small else 1.0, threshold=0.1),
        "k_sparse": replace(single, latent=units, code="relu", keep=units // 8),
        "contractive": replace(single, latent=64, code="sigmoid", tied=True, contractive=0.1, train=train.scaled(0.25)),
        "denoising": replace(base, corruption="gaussian", **(dense if small else mapped)),
        "conv": replace(base, model="conv", widths=(16, 32) if small else (32, 64), train=train.scaled(1 / 2)),
    }[name]


def make_networks(config: Config, spec: DataSpec) -> autoencoder.Autoencoder:
    """Encoder and decoder that `config` names, for images like `spec`."""
    spec.need("autoencoder", images=True)
    if config.keep > config.latent:
        raise ValueError(f"keep={config.keep} units of a code of latent={config.latent}; keep fewer")
    if config.kl and config.code != "sigmoid":
        raise ValueError(f"kl={config.kl} needs units between 0 and 1; set code=sigmoid instead of {config.code}")
    if config.tied and (config.model != "mlp" or config.activation == "gated"):
        raise ValueError("tied=true needs layers that have transposes; use model=mlp, and activation=relu or the like")
    options = {"activation": config.activation, "code": config.code, "keep": config.keep, "patch": config.patch}
    pair = coders(config.model, config.widths, config.latent, spec.shape, **options)
    return autoencoder.Autoencoder(*pair, mirrored_ties(len(config.widths) + 1) if config.tied else autoencoder.UNTIED)


def make_corruption(config: Config, level: float) -> Any:
    """`(key, x) -> x̃`, or None where nothing is corrupted."""
    if config.corruption == "none":
        return None
    return corruption(config.corruption, level)


def build(config: Config, spec: DataSpec) -> System:
    """Compose networks, loss, penalties, noise, optimiser, test errors and figures."""
    networks, corrupt = make_networks(config, spec), make_corruption(config, config.level)
    pixels = jax.nn.sigmoid if config.loss == "bce" else lambda outputs: outputs
    objective = autoencoder.reconstruction(
        networks,
        lookup("loss", config.loss, LOSSES),
        corrupt=corrupt,
        code_penalty=code_penalty.sparse(l1=config.l1, kl=config.kl, target=config.rho),
        contractive=config.contractive,
    )

    def reconstruct(params: Params, state: State, x: jax.Array) -> jax.Array:
        return pixels(autoencoder.reconstruct(networks, params, state, x))

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        x, where = batch["image"], batch["where"]
        error = lambda y: Mean.of(squared_error(y, x).reshape(len(x), -1).mean(1), where)  # noqa: E731
        codes, _ = autoencoder.encode(networks, params, state, x)
        sums = {"units": code_penalty.units(codes, where, threshold=config.threshold)}
        sums["mse"] = error(reconstruct(params, state, x))
        if corrupt is not None:
            noisy = by_row(corrupt, row_keys(key, batch["row"]), x)
            sums |= {"mse_clean": sums["mse"], "mse": error(reconstruct(params, state, noisy)), "noisy": error(noisy)}
        return sums

    fit = fit_by_gradient(
        objective,
        config,
        spec,
        ema=config.ema,
        init=lambda key, batch: autoencoder.init(key, networks, batch["image"]),
        preprocess=unit_pixels(spec),
        evaluate=evaluate,
        summarize=summary,
        monitor=("mse", "min"),
        describe=lambda: describe(networks, spec.shape),
    )

    def encode(params: Params, state: State, images: Any) -> jax.Array:
        return autoencoder.encode(networks, params, state, scale(images, spec.levels))[0]

    look = functools.partial(draw, config, encode, jax.jit(reconstruct))
    return System(
        {"autoencoder": fit, "gallery": gallery("autoencoder", look)},
        functions={"encode": encode, "reconstruct": lambda p, s, images: reconstruct(p, s, scale(images, spec.levels))},
        headline=("mse", "psnr", "active_fraction"),
        picture=("gallery/reconstructions",),
    )


def summary(sums: Mapping[str, Any]) -> dict[str, float]:
    """Errors, PSNR in dB, and what the units do."""
    found = {name: float(sums[name].value()) for name in ("mse", "mse_clean") if name in sums}
    found["psnr"] = psnr(found["mse"])
    if "noisy" in sums:
        found["psnr_noisy"] = psnr(float(sums["noisy"].value()))
        found["psnr_gain"] = found["psnr"] - found["psnr_noisy"]
    return found | code_penalty.report(sums["units"])


def describe(networks: autoencoder.Autoencoder, shape: tuple[int, ...]) -> str:
    """The summaries of encoder and decoder, for one example; a tied decoder's kernels are counted in both."""
    x = example(shape)
    code = jax.eval_shape(
        lambda key, x: networks.encoder.apply(*networks.encoder.init(key, x), x)[0], jax.random.key(0), x
    )
    return tables((networks.encoder, x), (networks.decoder, code))


def draw(config: Config, encode: Any, reconstruct: Any, trained: Result, data: Data) -> dict[str, Any]:
    """Reconstructions, first-layer filters, codes and their map on test images; of a denoiser, several strengths."""
    view, rows = (trained.params, trained.state), data.test.read(np.arange(min(2000, data.test.size)))
    x = scale(jnp.asarray(rows["image"][:12]), data.spec.levels)
    images = lambda x: np.asarray(reconstruct(*view, x))  # noqa: E731
    codes = np.asarray(jax.jit(encode)(*view, rows["image"]))
    shown, lines = [("image", np.asarray(x)), ("reconstruction", images(x))], []
    if config.corruption != "none":
        most = np.inf if config.corruption == "gaussian" else 1.0
        for level in (config.level * factor for factor in LADDER if config.level * factor <= most):
            noisy, kind = make_corruption(config, level)(jax.random.key(0), x), config.corruption.replace("_", " ")
            pair = [(f"{kind} {level:.2g}", np.asarray(noisy)), ("denoised", images(noisy))]
            lines += pair
            shown += pair if level == config.level else []
    first = next(layer for layer in trained.params["encoder"].values() if "kernel" in layer)["kernel"]
    kernel = np.asarray(first).reshape(*(first.shape[:3] if first.ndim == 4 else data.spec.shape), -1)
    ladder = {"ladder": panel("images.rows", [shown[0], *lines])} if lines else {}
    return ladder | {
        "reconstructions": panel("images.rows", shown),
        "filters": panel("codes.filters", kernel, "weights into units of the first layer"),
        "codes": panel("codes.histogram", codes, config.threshold, config.rho if config.kl else None),
        "map": panel("codes.plane", codes, labels_of(rows), data.spec.class_names),
    }
