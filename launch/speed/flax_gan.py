"""The DCGAN as a user of Flax writes it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from launch.speed.flax_net import Batch, Network, Params, batch_norm
from launch.speed.workload import LATENT, SAMPLES


class Generator(linen.Module):
    """64 numbers to 7×7×128, 14×14×64 and 28×28×1."""

    @linen.compact
    def __call__(self, z: jax.Array, train: bool) -> jax.Array:
        """Images from −1 to 1."""

        def up(x: jax.Array, features: int, name: str, **options: Any) -> jax.Array:
            options |= {"strides": (2, 2), "transpose_kernel": True, "name": name}
            return linen.ConvTranspose(features, (4, 4), **options)(x)

        x = linen.Dense(7 * 7 * 128, use_bias=False, name="generator.start.dense_0")(z).reshape(-1, 7, 7, 128)
        x = linen.relu(batch_norm(x, "generator.start.batch_norm_0", train))
        x = up(x, 64, "generator.up_1.conv_transpose_0", use_bias=False)
        x = linen.relu(batch_norm(x, "generator.up_1.batch_norm_0", train))
        return jnp.tanh(up(x, 1, "generator.image.conv_transpose_0"))


class Discriminator(linen.Module):
    """Two convolutions of stride 2 and a dense layer."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """A logit of each image."""
        for i, features in enumerate((64, 128)):
            name = f"discriminator.features.block_conv_{i}"
            x = linen.leaky_relu(linen.Conv(features, (4, 4), strides=2, name=name)(x), 0.2)
        return linen.Dense(1, use_bias=False, name="discriminator.logit")(x.reshape(len(x), -1))[:, 0]


def generated(params: Params, statistics: Any, z: jax.Array) -> tuple[jax.Array, Any]:
    """Images in training, and the statistics that they move."""
    variables = {"params": params, "batch_stats": statistics}
    x, moved = Generator().apply(variables, z, True, mutable=["batch_stats"])
    return x, moved["batch_stats"]


def judged(params: Params, x: jax.Array) -> jax.Array:
    """Logits of images."""
    return Discriminator().apply({"params": params}, x)


def discriminator_loss(params: Params, statistics: Any, batch: Batch) -> tuple[jax.Array, Any]:
    """Real against generated images; the generator's statistics stay."""
    fake, _ = generated(params, statistics, batch["noise"])
    real, made = judged(params, 2 * batch["image"] - 1), judged(params, fake)
    return (linen.softplus(-real) + linen.softplus(made)).mean(), statistics


def generator_loss(params: Params, statistics: Any, batch: Batch) -> tuple[jax.Array, Any]:
    """Non-saturating."""
    fake, moved = generated(params, statistics, batch["noise"])
    return linen.softplus(-judged(params, fake)).mean(), moved


@jax.jit
def sample(params: Params, statistics: Any, key: jax.Array) -> jax.Array:
    """Images of normal noise."""
    z = jax.random.normal(key, (SAMPLES, LATENT["gan"]))
    return Generator().apply({"params": params, "batch_stats": statistics}, z, False)


GAN = Network(
    {"discriminator.": discriminator_loss, "generator.": generator_loss},
    lambda params, statistics, batch: judged(params, batch["image"]),
    sample,
)
