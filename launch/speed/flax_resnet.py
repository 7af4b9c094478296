"""Residual networks as a user of Flax writes them: that of CIFAR and that of ImageNet."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen

from launch.speed.flax_net import batch_norm


def conv(x: jax.Array, features: int, window: int, name: str, stride: int = 1) -> jax.Array:
    """Half a window of zeros around the image, no bias."""
    options = {"strides": stride, "padding": [(window // 2, window // 2)] * 2, "use_bias": False}
    return linen.Conv(features, (window, window), name=name, **options)(x)


class ResNet20(linen.Module):
    """Three stages of three blocks, shortcuts that drop pixels and add channels of zeros."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        x = linen.relu(batch_norm(conv(x, 16, 3, "stem.conv"), "stem.norm", train))
        for stage, features in ((1, 16), (2, 32), (3, 64)):
            for block in range(3):
                at, stride = f"stage_{stage}.block_{block}.add.body", 2 if stage > 1 and block == 0 else 1
                h = linen.relu(batch_norm(conv(x, features, 3, f"{at}.conv_1", stride), f"{at}.norm_1", train))
                h = batch_norm(conv(h, features, 3, f"{at}.conv_2"), f"{at}.norm_2", train)
                x = jnp.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [(0, features - x.shape[-1])])
                x = linen.relu(x + h)
        return linen.Dense(10, name="head")(x.mean((1, 2)))


class ResNet50(linen.Module):
    """Four stages of bottlenecks, whose 3×3 convolution carries the stride, and shortcuts of 1×1 convolutions."""

    blocks: Sequence[int] = (3, 4, 6, 3)

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        x = linen.relu(batch_norm(conv(x, 64, 7, "stem.conv", 2), "stem.norm", train))
        x = linen.max_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)])
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                x = self.bottleneck(x, 64 * 2**stage, stride, f"stage_{stage + 1}.block_{block}.add", train)
        return linen.Dense(10, name="head")(x.mean((1, 2)))

    def bottleneck(self, x: jax.Array, width: int, stride: int, at: str, train: bool) -> jax.Array:
        """The block called `at`."""
        h = linen.relu(batch_norm(conv(x, width, 1, f"{at}.body.conv_1"), f"{at}.body.norm_1", train))
        h = linen.relu(batch_norm(conv(h, width, 3, f"{at}.body.conv_2", stride), f"{at}.body.norm_2", train))
        h = batch_norm(conv(h, 4 * width, 1, f"{at}.body.conv_3"), f"{at}.body.norm_3", train)
        if x.shape != h.shape:
            x = batch_norm(conv(x, 4 * width, 1, f"{at}.shortcut.conv", stride), f"{at}.shortcut.norm", train)
        return linen.relu(x + h)
