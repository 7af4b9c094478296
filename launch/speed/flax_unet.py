"""U-Nets as a user of Flax writes them: one of classes of pixels, and one that is told a time and denoises."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from launch.speed.flax_net import Batch, Params, trained
from launch.speed.workload import CLASSES, EVALUATIONS, SAMPLES

WIDTHS = (32, 64, 128)
"""Of the three resolutions, of one block each way."""
SIDE = 32
"""Of samples."""


class UNet(linen.Module):
    """Without a time."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits of the pixels."""
        return down_and_up(x, CLASSES["unet"])


class TimeUNet(linen.Module):
    """Whose blocks are told an embedding of the time."""

    @linen.compact
    def __call__(self, x: jax.Array, time: jax.Array, train: bool) -> jax.Array:
        """The noise."""
        half, wide = WIDTHS[0] // 2, 4 * WIDTHS[0]
        angle = time[:, None] * jnp.exp(-math.log(10_000) * jnp.arange(half, dtype=jnp.float32) / (half - 1))
        e = linen.Dense(wide, name="time.dense_0")(jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1))
        return down_and_up(x, 1, linen.Dense(wide, name="time.dense_1")(linen.silu(e)))


def down_and_up(x: jax.Array, outputs: int, told: jax.Array | None = None) -> jax.Array:
    """So many numbers per pixel."""
    h, kept = conv(x, WIDTHS[0], "stem"), []
    for i, width in enumerate(WIDTHS):
        h = block(linen.avg_pool(h, (2, 2), (2, 2)) if i else h, width, f"down_{i}_0", told)
        kept.append(h)
    h = block(h, WIDTHS[-1], "middle", told)
    for i in (2, 1, 0):
        h = h if i == 2 else jax.image.resize(h, kept[i].shape[:-1] + h.shape[-1:], "nearest")
        h = block(jnp.concatenate([h, kept[i]], -1), WIDTHS[i], f"up_{i}_0", told)
    return conv(linen.silu(norm(h, "norm")), outputs, "out")


def block(x: jax.Array, features: int, at: str, told: jax.Array | None) -> jax.Array:
    """Residual; what it is `told` scales and shifts the second norm."""
    h = conv(linen.silu(norm(x, f"{at}.norm_1")), features, f"{at}.conv_1")
    if told is None:
        h = norm(h, f"{at}.norm_2")
    else:
        film = linen.Dense(2 * features, name=f"{at}.film")(linen.silu(told))
        scale, shift = jnp.split(film[:, None, None], 2, -1)
        h = norm(h, f"{at}.norm_2", affine=False) * (1 + scale) + shift
    h = conv(linen.silu(h), features, f"{at}.conv_2")
    return h + (x if x.shape == h.shape else linen.Conv(features, (1, 1), name=f"{at}.shortcut")(x))


def conv(x: jax.Array, features: int, name: str) -> jax.Array:
    """3×3."""
    return linen.Conv(features, (3, 3), name=name)(x)


def norm(x: jax.Array, name: str, *, affine: bool = True) -> jax.Array:
    """Of eight groups."""
    return linen.GroupNorm(8, epsilon=1e-5, use_scale=affine, use_bias=affine, name=name)(x)


@jax.jit
def denoised(params: Params, x: jax.Array, t: jax.Array) -> jax.Array:
    """A step of the sampler."""
    return x - TimeUNet().apply({"params": params}, x, jnp.full(len(x), t), False) / EVALUATIONS


def sample(params: Params, statistics: Any, key: jax.Array) -> jax.Array:
    """Compiled steps, called in a loop: within a compiled loop convolutions are slow on CPU."""
    x = jax.random.normal(key, (SAMPLES, SIDE, SIDE, 1))
    for t in jnp.linspace(999.0, 0.0, EVALUATIONS):
        x = denoised(params, x, t)
    return x


def squared_error(outputs: jax.Array, batch: Batch) -> jax.Array:
    """Of the noise."""
    return jnp.square(outputs - batch["noise"]).mean()


DIFFUSION = trained(TimeUNet(), squared_error, ("image", "time"))._replace(sample=sample)
