"""The workloads in dlcore: networks, losses and batches. All randomness of a loss stands in the batch."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dlcore import losses, nn
from dlcore import networks as nets
from dlcore.generative import autoregressive, decoder, flow, likelihoods
from dlcore.generative import vae as variational
from dlcore.types import Aux, Batch, Key, Model, Objective, Params, State
from launch.speed.mixers import mixer_constants
from launch.speed.workload import CLASSES, DRAWS, EVALUATIONS, LATENT, MANY_DRAWS, SAMPLES


class Network(NamedTuple):
    """A workload without its optimiser."""

    shape: tuple[int, ...]
    """Of a batch of images."""
    init: Callable[[Key, Batch], tuple[Params, State]]
    objectives: Mapping[str, tuple[str, Objective]]
    """By name: which params it trains, and the loss."""
    predict: Callable[[Params, State, Batch], Any]
    batch: Callable[[np.random.Generator, tuple[int, ...]], Mapping[str, np.ndarray]]
    sample: Callable[[Params, State, Key], Any] | None = None


Loss = Callable[[Params, State, Batch], tuple[jax.Array, State]]


def objective(loss: Loss) -> Objective:
    """An objective of dlcore's from a loss whose randomness stands in the batch."""

    def whole(params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Any = None) -> Any:
        value, state = loss(params, state, batch)
        return value, Aux(state, {})

    return whole


def images(rng: np.random.Generator, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Grey levels from 0 to 1."""
    return {"image": rng.random(shape, np.float32)}


def regression(shape: tuple[int, ...], model: Model, inputs: Callable[[Batch], tuple], target: str) -> Network:
    """Mean squared error of the outputs."""

    def loss(params: Params, state: State, batch: Batch) -> tuple[jax.Array, State]:
        y, state = model.apply(params, state, *inputs(batch), train=True)
        return jnp.square(y - batch[target]).mean(), state

    return Network(
        shape,
        lambda key, batch: model.init(key, *inputs(batch)),
        {"loss": ("**", objective(loss))},
        lambda params, state, batch: model.apply(params, state, *inputs(batch))[0],
        images,
    )


def classification(shape: tuple[int, ...], model: Model, *, pixels: int = 0) -> Network:
    """Cross-entropy of ten classes of images, or of `pixels` classes of each pixel."""

    def loss(params: Params, state: State, batch: Batch) -> tuple[jax.Array, State]:
        logits, state = model.apply(params, state, batch["image"], train=True)
        return losses.softmax_cross_entropy(logits, batch["label"]).mean(), state

    def batch(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        size = shape[:3] if pixels else shape[:1]
        return images(rng, shape) | {"label": rng.integers(0, pixels or 10, size, np.int32)}

    return Network(
        shape,
        lambda key, batch: model.init(key, batch["image"]),
        {"loss": ("**", objective(loss))},
        lambda params, state, batch: model.apply(params, state, batch["image"])[0],
        batch,
    )


def latent_model() -> variational.VAE:
    """784-400-20 and back, Bernoulli pixels."""
    outputs = nets.MLPDecoder((400,), (28, 28, 1), activation="relu")
    return variational.VAE(nets.MLPEncoder((400,), 2 * LATENT["vae"], activation="relu"), outputs, decoder.bernoulli())


def vae() -> Network:
    """One draw of the latent code, the divergence in closed form."""
    model, size = latent_model(), LATENT["vae"]

    def elbo(params: Params, state: State, batch: Batch) -> tuple[jax.Array, State]:
        mean, log_std, _ = variational.encode(model, params, state, batch["image"], train=True)
        logits, _ = variational.decode(model, params, state, mean + jnp.exp(log_std) * batch["noise"], train=True)
        nll = losses.sigmoid_cross_entropy(logits, batch["image"]).sum((1, 2, 3))
        kl = 0.5 * (jnp.square(mean) + jnp.exp(2 * log_std) - 1 - 2 * log_std).sum(-1)
        return (nll + kl).mean(), state

    def batch(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        return images(rng, shape) | {"noise": rng.standard_normal((shape[0], size), np.float32)}

    return Network(
        (128, 28, 28, 1),
        lambda key, batch: variational.init(key, model, batch["image"]),
        {"loss": ("**", objective(elbo))},
        lambda params, state, batch: model.encoder.apply(params["encoder"], {}, batch["image"])[0],
        batch,
        lambda params, state, key: variational.sample(key, model, params, state, (SAMPLES, size)),
    )


def iwae() -> Network:
    """The network of `vae` by the importance-weighted bound of five draws; inference is that of fifty."""
    model = latent_model()

    def estimate(params: Params, state: State, batch: Batch, noise: str) -> jax.Array:
        draws = batch[noise].swapaxes(0, 1)  # [k, b, d]
        return -variational.iwae_bound(variational.log_weights(model, params, state, batch["image"], draws))

    def loss(params: Params, state: State, batch: Batch) -> tuple[jax.Array, State]:
        return estimate(params, state, batch, "noise").mean(), state

    def batch(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        noise = {
            name: rng.standard_normal((shape[0], draws, LATENT["iwae"]), np.float32)
            for name, draws in (("noise", DRAWS), ("many_noise", MANY_DRAWS))
        }
        return images(rng, shape) | noise

    return Network(
        (128, 28, 28, 1),
        lambda key, batch: variational.init(key, model, batch["image"]),
        {"loss": ("**", objective(loss))},
        lambda params, state, batch: estimate(params, state, batch, "many_noise"),
        batch,
    )


def diffusion(
    widths: Sequence[int] = (32, 64, 128), shape: tuple[int, ...] = (32, 32, 32, 1), dtype: str = "float32"
) -> Network:
    """The noise in a noisy image at a given time, by a U-Net."""
    model = nn.in_precision(nets.TimeUNet(1, widths), dtype)
    network = regression(shape, model, lambda batch: (batch["image"], batch["time"]), "noise")

    def batch(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        noise = rng.standard_normal(shape, np.float32)
        return images(rng, shape) | {"noise": noise, "time": rng.random(shape[0], np.float32) * 1000}

    def sample(params: Params, state: State, key: Key) -> jax.Array:
        x = jax.random.normal(key, (SAMPLES, *shape[1:]))

        def back(x: jax.Array, t: jax.Array) -> tuple[jax.Array, None]:
            return x - model.apply(params, state, x, jnp.full(SAMPLES, t))[0] / EVALUATIONS, None

        return jax.lax.scan(back, x, jnp.linspace(999.0, 0.0, EVALUATIONS))[0]

    return network._replace(batch=batch, sample=sample)


def gan(dtype: str = "float32") -> Network:
    """DCGAN: a step of the discriminator, then one of the generator, both with the non-saturating loss."""
    generator = nn.in_precision(nets.DCGenerator((28, 28, 1), (128, 64)), dtype)
    discriminator = nn.in_precision(nets.DCDiscriminator((64, 128)), dtype)

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        keys = jax.random.split(key)
        made = generator.init(keys[0], batch["noise"]), discriminator.init(keys[1], batch["image"])
        names = ("generator", "discriminator")
        return tuple(dict(zip(names, kind, strict=True)) for kind in zip(*made, strict=True))

    def judge(params: Params, x: jax.Array) -> jax.Array:
        return discriminator.apply(params["discriminator"], {}, x, train=True)[0]

    def fake(params: Params, state: State, batch: Batch) -> tuple[jax.Array, State]:
        x, made = generator.apply(params["generator"], state["generator"], batch["noise"], train=True)
        return x, state | {"generator": made}

    def discriminate(params: Params, state: State, batch: Batch) -> tuple[jax.Array, State]:
        x, _ = fake(params, state, batch)
        real, made = judge(params, 2 * batch["image"] - 1), judge(params, x)
        return (jax.nn.softplus(-real) + jax.nn.softplus(made)).mean(), state

    def generate(params: Params, state: State, batch: Batch) -> tuple[jax.Array, State]:
        x, state = fake(params, state, batch)
        return jax.nn.softplus(-judge(params, x)).mean(), state

    def batch(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        return images(rng, shape) | {"noise": rng.standard_normal((shape[0], LATENT["gan"]), np.float32)}

    def sample(params: Params, state: State, key: Key) -> jax.Array:
        z = jax.random.normal(key, (SAMPLES, LATENT["gan"]))
        return generator.apply(params["generator"], state["generator"], z)[0]

    predict = lambda params, state, batch: judge(params, batch["image"])  # noqa: E731
    updates = {
        "discriminator": ("discriminator/**", objective(discriminate)),
        "generator": ("generator/**", objective(generate)),
    }
    return Network((64, 28, 28, 1), init, updates, predict, batch, sample)


def levels(rng: np.random.Generator, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """Grey levels, 256 of them, from 0 to 1."""
    return {"image": (rng.integers(0, 256, shape) / 255).astype(np.float32)}


def pixelcnn(
    features: int = 64,
    windows: Sequence[int] = (7, 3, 3, 3, 3, 3),
    shape: tuple[int, ...] = (32, 28, 28, 1),
    dtype: str = "float32",
) -> Network:
    """Gated, six layers of 64 features, a mixture of five logistics."""
    head = likelihoods.pixel_head("mixture", 256, 1, components=5)
    network = nets.GatedPixelCNN(head.channels, features=features, windows=windows)
    network = network._replace(model=nn.in_precision(network.model, dtype))
    loss = autoregressive.negative_log_likelihood(network.model, head)
    draw = autoregressive.make_sample(network, head, shape[1:])
    centred = lambda batch: autoregressive.centre(batch["image"])  # noqa: E731
    return Network(
        shape,
        lambda key, batch: network.model.init(key, centred(batch)),
        {"loss": ("**", loss)},
        lambda params, state, batch: network.model.apply(params, state, centred(batch))[0],
        levels,
        lambda params, state, key: draw(params, state, key, SAMPLES),
    )


def glow(width: int = 64, steps: int = 8, shape: tuple[int, ...] = (32, 32, 32, 1), dtype: str = "float32") -> Network:
    """Two scales of eight steps, couplings of 64 features, in real-valued images.

    The couplings compute in `dtype`, densities in float32.
    """

    def conditioner(shape: tuple[int, ...], outputs: int) -> Model:
        return nn.in_precision(nets.ConvConditioner(width, outputs), dtype)

    bijector = flow.Glow(shape[1:], conditioner, scales=2, steps=steps)
    constants = mixer_constants(shape[-1], scales=2, steps=steps)
    loss = flow.density.negative_log_likelihood(bijector, target="image")
    return Network(
        shape,
        lambda key, batch: (bijector.init(key, batch["image"]), constants),
        {"loss": ("**", loss)},
        lambda params, state, batch: flow.density.log_prob(bijector, params, batch["image"]),
        images,
        lambda params, state, key: flow.density.sample(key, bijector, params, (SAMPLES, math.prod(shape[1:]))),
    )


def autoencoder() -> Network:
    """Two convolutions down, two up, a code of 32."""
    shape = (128, 28, 28, 1)
    body = nn.serial(encoder=nets.ConvEncoder((32, 64), 32), decoder=nets.ConvDecoder((64, 32), shape[1:]))
    return regression(shape, body, lambda batch: (batch["image"],), "image")


NETWORKS: Mapping[str, Callable[[], Network]] = {
    "mlp": lambda: classification((128, 28, 28, 1), nets.MLP((512, 512), outputs=10)),
    "cnn": lambda: classification((128, 28, 28, 1), nets.CNN((32, 64), 10, hidden=128)),
    "resnet20": lambda: classification((128, 32, 32, 3), nets.ResNet(nets.cifar_config(20))),
    "resnet50": lambda: classification((32, 64, 64, 3), nets.ResNet(nets.imagenet_config(50, classes=10))),
    "vae": vae,
    "iwae": iwae,
    "autoencoder": autoencoder,
    "pixelcnn": pixelcnn,
    "flow": glow,
    "gan": gan,
    "diffusion": diffusion,
    "unet": lambda: classification((16, 64, 64, 1), nets.UNet(CLASSES["unet"], (32, 64, 128)), pixels=CLASSES["unet"]),
}
"""By name, as `--suite=standard` times them."""
