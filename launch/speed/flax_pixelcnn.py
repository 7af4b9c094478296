"""The gated PixelCNN as a user of Flax writes it, and its mixture of discretised logistics."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen

from launch.speed.flax_net import PositionBias

WHITE = 255
FEATURES = 64


def gate(x: jax.Array) -> jax.Array:
    """tanh(a) ⊙ σ(b) of the two halves of the channels."""
    a, b = jnp.split(x, 2, -1)
    return jnp.tanh(a) * linen.sigmoid(b)


class PixelCNN(linen.Module):
    """Six gated layers of two stacks, a mixture of five logistics."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits, means and log-scales of every pixel, [b, h, w, 15]."""
        v = h = 2 * x - 1
        for i, window in enumerate((7, 3, 3, 3, 3, 3)):
            at, first, half = f"layer_{i + 1}", i == 0, window // 2
            up, left = self.vertical(v, half, first, at), self.horizontal(h, half, first, at)
            if first:
                both = PositionBias(name=f"{at}.position")(jnp.concatenate([up, left], -1))
                up, left = jnp.split(both, 2, -1)
            link = linen.Conv(2 * FEATURES, (1, 1), name=f"{at}.link")(up)
            out = linen.Conv(FEATURES, (1, 1), name=f"{at}.out")(gate(left + link))
            v, h = gate(up), out if first else h + out
        h = linen.relu(linen.Conv(2 * FEATURES, (1, 1), name="head.hidden")(linen.relu(h)))
        return linen.Conv(15, (1, 1), name="head.outputs")(h)

    def vertical(self, x: jax.Array, half: int, first: bool, at: str) -> jax.Array:
        """Rows above, and where it is not the first layer the current one."""
        padding = [(half, 0), (half, half)]
        window = (half + (not first), 2 * half + 1)
        y = linen.Conv(2 * FEATURES, window, padding=padding, name=f"{at}.vertical")(x)
        return y[:, :-1] if first else y

    def horizontal(self, x: jax.Array, half: int, first: bool, at: str) -> jax.Array:
        """Pixels at the left, and where it is not the first layer the current one."""
        mask = jnp.ones((1, half + 1, x.shape[-1], 2 * FEATURES)).at[:, -1].set(0 if first else 1)
        options = {"padding": [(0, 0), (half, 0)], "mask": mask, "name": f"{at}.horizontal"}
        return linen.Conv(2 * FEATURES, (1, half + 1), **options)(x)


def negative_log_likelihood(outputs: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Mean over pixels, in nats."""
    logits, mean, log_scale = jnp.split(outputs, 3, -1)
    level, inverse = jnp.round(WHITE * batch["image"]), jnp.exp(-jnp.clip(log_scale, -7, 5)) / WHITE
    distance = 2 * level - WHITE - WHITE * mean
    below_high = linen.log_sigmoid((distance + 1) * inverse)
    above_low = linen.log_sigmoid((1 - distance) * inverse)
    inner = below_high + above_low + jnp.log(-jnp.expm1(-2 * inverse))
    mass = jnp.where(level == 0, below_high, jnp.where(level == WHITE, above_low, inner))
    return -jax.nn.logsumexp(linen.log_softmax(logits) + mass, -1).mean()
