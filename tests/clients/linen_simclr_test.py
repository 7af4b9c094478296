"""A user's SimCLR: two views per image by dlcore's augmentations under vmap, and an NT-Xent loss of the user's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clients.program import resumes_to_the_bit, same

from dlcore.data import chain, colour_jitter, random_crop, random_flip
from dlcore.interop import from_linen
from dlcore.keys import fold_name
from dlcore.train import create, gradient_update, make_train_step
from dlcore.types import Aux, Mean

KEY, TEMPERATURE = jax.random.key(0), 0.5


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Conv(4, (3, 3), strides=(2, 2))(x)).mean((1, 2))
        return nn.Dense(3)(nn.relu(nn.Dense(5)(h)))


def nt_xent(z):
    """Mean cross-entropy of each of [2n] views finding its partner among the others (Chen et al. 2020, eq. 1)."""
    z, n = z / jnp.linalg.norm(z, axis=-1, keepdims=True), len(z) // 2
    similarity = z @ z.T / TEMPERATURE - 1e9 * jnp.eye(2 * n)
    return optax.softmax_cross_entropy_with_integer_labels(similarity, (jnp.arange(2 * n) + n) % (2 * n))


augment = chain(
    lambda key, x: random_crop(key, x, 1),
    random_flip,
    lambda key, x: colour_jitter(key, x, brightness=0.4, contrast=0.4),
)


def written_out(key, image):
    """The same draws for one image, by hand."""
    keys = [jax.random.fold_in(key, i) for i in range(3)]
    row, column = jax.random.randint(keys[0], (1, 2), 0, 3)[0]
    image = jax.lax.dynamic_slice(jnp.pad(image, ((1, 1), (1, 1), (0, 0))), (row, column, 0), image.shape)
    image = jnp.where(jax.random.bernoulli(keys[1], 0.5, (1, 1, 1, 1))[0], jnp.flip(image, 1), image)
    bright, contrast, _ = jax.random.uniform(keys[2], (3, 1, 1, 1, 1), minval=-1.0)[:, 0]
    image = image * (1 + 0.4 * bright)
    return jnp.clip(image.mean() + (1 + 0.4 * contrast) * (image - image.mean()), 0, 1)


def views(draw, key, images):
    """[2n, h, w, c]: first views, then second ones, with one key for each."""
    keys = jax.random.split(key, 2 * len(images))
    return jax.vmap(draw)(keys, jnp.concatenate([images, images]))


@pytest.mark.slow
def test_simclr_of_a_users_own(tmp_path):
    module, tx = Encoder(), optax.adamw(3e-3, weight_decay=1e-2)
    model = from_linen(module)

    def objective(params, state, batch, *, key, train, step=None):
        z, state = model.apply(params, state, views(augment, key, batch["image"]), train=train)
        losses = nt_xent(z)
        return losses.mean(), Aux(state, {"loss": Mean.of(losses)})

    data = [{"image": x} for x in jax.random.uniform(KEY, (4, 4, 6, 6, 3))]
    update = gradient_update(objective, tx)
    start = create(KEY, lambda key: model.init(key, data[0]["image"]), update)
    step = jax.jit(make_train_step(update))
    state, losses = resumes_to_the_bit(tmp_path, start, step, data)

    @jax.jit
    def plain(params, opt, images, key):
        f = lambda p: nt_xent(module.apply({"params": p}, views(written_out, key, images))).mean()  # noqa: E731
        loss, grads = jax.value_and_grad(f)(params)
        updates, opt = tx.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, loss

    params, opt, expected = start.params, tx.init(start.params), []
    for i, batch in enumerate(data):
        key = fold_name(jax.random.fold_in(jax.random.wrap_key_data(start.key), i), "update")
        params, opt, loss = plain(params, opt, batch["image"], key)
        expected.append(loss)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    same(state.params, params)
