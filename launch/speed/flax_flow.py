"""Glow as a user of Flax writes it: the density of images."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen

from launch.speed.flax_net import PositionBias

SCALES, STEPS, WIDTH = 2, 8, 64
BOUND = 2.0
"""Of the log-scales of couplings."""

Moved = tuple[jax.Array, jax.Array]


class ActNorm(linen.Module):
    """z = (x + b)·exp(l) per channel."""

    @linen.compact
    def __call__(self, x: jax.Array) -> Moved:
        """z and log|det|."""
        start = linen.initializers.zeros
        bias, log_scale = (self.param(name, start, x.shape[-1:]) for name in ("bias", "log_scale"))
        return (x + bias) * jnp.exp(log_scale), x.shape[1] * x.shape[2] * log_scale.sum()


class Mixer(linen.Module):
    """z = W x at every pixel, W = P L (U + diag(s)), of which P and the signs of s are fixed."""

    @linen.compact
    def __call__(self, x: jax.Array) -> Moved:
        """z and log|det|."""
        c, start = x.shape[-1], linen.initializers.zeros
        lower, upper = (self.param(name, start, (c, c)) for name in ("lower", "upper"))
        log_scale = self.param("log_scale", start, (c,))
        permutation = self.variable("batch_stats", "permutation", jnp.eye, c).value
        signs = self.variable("batch_stats", "signs", jnp.ones, c).value
        left = jnp.tril(lower, -1) + jnp.eye(c)
        right = jnp.triu(upper, 1) + jnp.diag(signs * jnp.exp(log_scale))
        return x @ (permutation @ left @ right).T, x.shape[1] * x.shape[2] * log_scale.sum()


class Glow(linen.Module):
    """Two scales of eight steps; half of the channels leave between the scales."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """log p(x) of every image, in nats."""
        total = 0.0
        for scale in range(SCALES):
            b, h, w, c = x.shape
            x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)
            for i in range(STEPS):
                x, log_det = self.step(x, f"{'rest.' * scale}step_{i}")
                total = total + log_det
            x, out = (None, x) if scale == SCALES - 1 else jnp.split(x, 2, -1)
            total = total - 0.5 * (jnp.square(out) + math.log(2 * math.pi)).sum((1, 2, 3))
        return total

    def step(self, x: jax.Array, at: str) -> Moved:
        """Actnorm, mixing of the channels and affine coupling."""
        x, normed = ActNorm(name=f"{at}.act_norm")(x)
        x, mixed = Mixer(name=f"{at}.mix")(x)
        kept, moved = jnp.split(x, 2, -1)
        conv = lambda x, features, name, **options: linen.Conv(  # noqa: E731
            features, (3, 3), name=f"{at}.coupling.{name}", **options
        )(x)
        h = PositionBias(name=f"{at}.coupling.position")(conv(kept, WIDTH, "stem", use_bias=False))
        h = h + conv(linen.relu(h), WIDTH, "block_0.body.conv_0")
        raw, shift = jnp.split(conv(linen.relu(h), x.shape[-1], "head"), 2, -1)
        log_slope = BOUND * jnp.tanh(raw / BOUND)
        x = jnp.concatenate([kept, moved * jnp.exp(log_slope) + shift], -1)
        return x, normed + mixed + log_slope.sum((1, 2, 3))


def negative_log_likelihood(log_prob: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Mean over the images."""
    return -log_prob.mean()
