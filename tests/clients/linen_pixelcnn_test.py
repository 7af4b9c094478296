"""A user's PixelCNN++ in Linen, with weight norm started from data, on dlcore's likelihood and engine.

Judged by the published loss written out by the user, and optax's loop.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clients.program import resumes_to_the_bit

from dlcore.generative import autoregressive, decoder
from dlcore.interop import from_linen
from dlcore.train import create, gradient_update, make_train_step
from dlcore.types import Model

LEVELS, COMPONENTS = 8, 2


class WeightNormConv(nn.Module):
    """y = g v ∗ x/‖v‖ + b, with g and b such that the first batch comes out standardised."""

    features: int
    window: tuple[int, int]

    @nn.compact
    def __call__(self, x, padding):
        v = self.param("v", nn.initializers.normal(0.05), (*self.window, x.shape[-1], self.features))
        kernel = v / jnp.sqrt(jnp.square(v).sum((0, 1, 2)))
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        g = self.param("g", lambda key: 1 / y.std((0, 1, 2)))
        b = self.param("b", lambda key: -y.mean((0, 1, 2)) / y.std((0, 1, 2)))
        return g * y + b


class PixelCNNPP(nn.Module):
    """Two streams: rows above, moved down by one, and pixels to the left, moved right by one."""

    @nn.compact
    def __call__(self, x):
        down = lambda u: jnp.pad(u, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]  # noqa: E731
        right = lambda u: jnp.pad(u, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]  # noqa: E731
        above = down(WeightNormConv(6, (2, 3))(x, ((1, 0), (1, 1))))
        h = above + right(WeightNormConv(6, (1, 2))(x, ((0, 0), (1, 0))))
        h = h + nn.elu(WeightNormConv(6, (1, 1))(nn.elu(h), ((0, 0), (0, 0))))
        return WeightNormConv(10 * COMPONENTS, (1, 1))(nn.elu(h), ((0, 0), (0, 0)))


def published_loss(outputs, x):
    """−log p per sub-pixel, of x in [−1, 1]."""
    m, half = COMPONENTS, 1 / (LEVELS - 1)
    logits, rest = outputs[..., :m], outputs[..., m:].reshape(*x.shape, 3 * m)
    means, coefficients = rest[..., :m], jnp.tanh(rest[..., 2 * m :])
    inverse = jnp.exp(-jnp.maximum(rest[..., m : 2 * m], -7.0))
    x = jnp.broadcast_to(x[..., None], means.shape)
    red, green = x[..., 0, :], x[..., 1, :]
    green_mean = means[..., 1, :] + coefficients[..., 0, :] * red
    blue_mean = means[..., 2, :] + coefficients[..., 1, :] * red + coefficients[..., 2, :] * green
    centred = x - jnp.stack([means[..., 0, :], green_mean, blue_mean], axis=-2)
    upper, lower = inverse * (centred + half), inverse * (centred - half)
    # In the lower tail, where a difference of two sigmoids does not cancel.
    mirror = jnp.where(centred > 0, -1.0, 1.0)
    inside = jnp.log(jnp.maximum(jnp.abs(jax.nn.sigmoid(mirror * upper) - jax.nn.sigmoid(mirror * lower)), 1e-12))
    masses = jnp.where(x > 0.999, -jax.nn.softplus(lower), inside)
    masses = jnp.where(x < -0.999, upper - jax.nn.softplus(upper), masses)
    total = jax.nn.logsumexp(masses.sum(-2) + jax.nn.log_softmax(logits), axis=-1)
    return -total.mean() / 3


def batches(count):
    levels = np.random.default_rng(0).integers(LEVELS, size=(count, 4, 3, 3, 3))
    return [{"image": jnp.asarray(x / (LEVELS - 1), jnp.float32)} for x in levels]


@pytest.mark.slow
def test_a_pixelcnn_of_a_users_own(tmp_path):
    module, data, tx = PixelCNNPP(), batches(4), optax.adam(1e-3)
    started = module.init(jax.random.key(0), 2 * data[0]["image"] - 1)["params"]
    model = Model(lambda key, x: (started, {}), from_linen(module).apply)
    family = decoder.colour_mixture(LEVELS, COMPONENTS)
    objective = autoregressive.negative_log_likelihood(model, family)
    update = gradient_update(objective, tx)
    start = create(jax.random.key(1), lambda key: model.init(key, data[0]["image"]), update)
    step = jax.jit(make_train_step(update))
    state, losses = resumes_to_the_bit(tmp_path, start, step, data)

    @jax.jit
    def plain(params, opt, x):
        loss, grads = jax.value_and_grad(lambda p: published_loss(module.apply({"params": p}, x), x))(params)
        updates, opt = tx.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, loss

    params, opt, expected = started, tx.init(started), []
    for batch in data:
        params, opt, loss = plain(params, opt, 2 * batch["image"] - 1)
        expected.append(loss)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), state.params, params)
    drawn = autoregressive.sample_naive(jax.random.key(2), model, family, state.params, {}, (1, 2, 2, 3))
    np.testing.assert_allclose(drawn * (LEVELS - 1), np.rint(np.asarray(drawn) * (LEVELS - 1)), atol=1e-5)
