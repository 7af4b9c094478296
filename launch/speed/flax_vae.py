"""The VAE as a user of Flax writes it: evidence lower bound, importance-weighted bound, samples."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen
from jax.scipy.stats import norm

from launch.speed.flax_net import Batch, Network, Params
from launch.speed.workload import LATENT, SAMPLES


class Encoder(linen.Module):
    """784-400-40."""

    @linen.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Mean and logarithm of the standard deviation of the code, side by side."""
        h = linen.relu(linen.Dense(400, name="encoder.dense_0")(image.reshape(len(image), -1)))
        return linen.Dense(2 * LATENT["vae"], name="encoder.dense_1")(h)


class Decoder(linen.Module):
    """20-400-784."""

    @linen.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Logits of pixels."""
        return linen.Dense(784, name="decoder.dense_1")(linen.relu(linen.Dense(400, name="decoder.dense_0")(z)))


def encoded(params: Params, statistics: Any, batch: Batch) -> jax.Array:
    """The encoder's outputs."""
    return Encoder().apply({"params": params}, batch["image"])


def negative_log_pixels(params: Params, z: jax.Array, image: jax.Array) -> jax.Array:
    """−log p(x|z), [b, ...], of codes [b, ..., 20]."""
    logits = Decoder().apply({"params": params}, z)
    pixels = image.reshape(len(image), *[1] * (z.ndim - 2), -1)
    return optax.sigmoid_binary_cross_entropy(logits, pixels).sum(-1)


def elbo(params: Params, statistics: Any, batch: Batch) -> tuple[jax.Array, Any]:
    """The negative evidence lower bound, the divergence in closed form."""
    mean, log_std = jnp.split(encoded(params, statistics, batch), 2, -1)
    nll = negative_log_pixels(params, mean + jnp.exp(log_std) * batch["noise"], batch["image"])
    kl = 0.5 * (jnp.square(mean) + jnp.exp(2 * log_std) - 1 - 2 * log_std).sum(-1)
    return (nll + kl).mean(), statistics


def estimate(params: Params, batch: Batch, noise: str) -> jax.Array:
    """−log (1/k) Σ p(x|z) p(z) / q(z|x) of every image, over the k draws of this entry of the batch."""
    mean, log_std = jnp.split(encoded(params, {}, batch)[:, None], 2, -1)
    z = mean + jnp.exp(log_std) * batch[noise]
    divergence = (norm.logpdf(z, mean, jnp.exp(log_std)) - norm.logpdf(z)).sum(-1)
    log_weights = -divergence - negative_log_pixels(params, z, batch["image"])
    return math.log(z.shape[1]) - jax.nn.logsumexp(log_weights, 1)


@jax.jit
def sample(params: Params, statistics: Any, key: jax.Array) -> jax.Array:
    """Probabilities of pixels."""
    return linen.sigmoid(Decoder().apply({"params": params}, jax.random.normal(key, (SAMPLES, LATENT["vae"]))))


VAE = Network({"": elbo}, encoded, sample)
IWAE = Network(
    {"": lambda params, statistics, batch: (estimate(params, batch, "noise").mean(), statistics)},
    lambda params, statistics, batch: estimate(params, batch, "many_noise"),
)
