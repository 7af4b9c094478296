"""The convolutional autoencoder as a user of Flax writes it."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen


class Autoencoder(linen.Module):
    """Convolutions of stride 2 down, a code of 32, sub-pixel convolutions up."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """The image again."""
        dense = lambda x, features, name: linen.Dense(features, name=name)(x)  # noqa: E731
        for i, features in enumerate((32, 64)):
            x = linen.silu(linen.Conv(features, (3, 3), strides=2, name=f"encoder.conv_{i}")(x))
        x = linen.silu(dense(x.reshape(len(x), -1), 256, "encoder.dense_0"))
        x = dense(x, 32, "encoder.dense_1")
        x = linen.silu(dense(x, 256, "decoder.dense_0"))
        x = linen.silu(dense(x, 7 * 7 * 64, "decoder.dense_1")).reshape(-1, 7, 7, 64)
        for i in range(2):
            x = linen.silu(depth_to_space(linen.Conv(4 * 32, (3, 3), name=f"decoder.conv_{i}")(x)))
        return linen.Conv(1, (3, 3), name="decoder.conv_2")(x)


def depth_to_space(x: jax.Array) -> jax.Array:
    """Channels to blocks of 2 × 2 pixels."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, 2 * h, 2 * w, c // 4)


def squared_error(outputs: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Of the pixels."""
    return jnp.square(outputs - batch["image"]).mean()
