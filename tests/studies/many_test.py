"""Trainings at once against a plain loop over each, with optax and the same batches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.optim import transforms
from dlcore.studies import train_many

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(30, 3)), jnp.float32)
Y = jnp.asarray(RNG.integers(0, 2, 30))
START = {"kernel": jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32), "bias": jnp.zeros(2)}
KEY = jax.random.key(4)


def losses(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(jnp.tanh(x @ params["kernel"]) + params["bias"], y)


def loop(tx, size, largest, steps, every):
    gradient = jax.jit(jax.grad(lambda p, x, y: losses(p, x, y).mean()))
    params, memory, found = START, tx.init(START), []
    for k, key in enumerate(jax.random.split(KEY, (steps // every, every)).reshape(-1), 1):
        rows = jax.random.randint(key, (largest,), 0, len(X))[:size]
        updates, memory = tx.update(gradient(params, X[rows], Y[rows]), memory)
        params = optax.apply_updates(params, updates)
        if k % every == 0:
            found.append(float(losses(params, X, Y).mean()))
    return found


@pytest.mark.slow
def test_every_training_is_the_plain_loop():
    settings, sizes = [(0.1, 0.0), (0.5, 0.9), (0.2, 0.5)], [4, 8, 1]
    found = train_many(losses, START, X, Y, transforms.momentum, settings, sizes, steps=12, every=3, key=KEY)
    expected = [
        loop(optax.sgd(rate, alpha), size, 8, 12, 3) for (rate, alpha), size in zip(settings, sizes, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_one_that_diverges_leaves_the_others_alone():
    def steep(params, x, y):
        return losses(params, x, y) + jnp.square(params["bias"]).sum()

    options = {"steps": 20, "every": 20, "key": KEY}
    pair = train_many(steep, START, X, Y, transforms.sgd, [(0.1,), (1e9,)], [8, 8], **options)
    alone = train_many(steep, START, X, Y, transforms.sgd, [(0.1,)], [8], **options)
    np.testing.assert_allclose(pair[0], alone[0], rtol=1e-6)
    assert not np.isfinite(pair[1, -1])


def test_bad_input():
    for settings, sizes, steps, every, message in (
        ([], [], 4, 2, "one batch size"),
        ([(0.1,)], [4, 4], 4, 2, "one batch size"),
        ([(0.1,)], [0], 4, 2, "one batch size"),
        ([(0.1,)], [4], 5, 2, "multiple"),
        ([(0.1,)], [4], 0, 1, "multiple"),
    ):
        with pytest.raises(ValueError, match=message):
            train_many(losses, START, X, Y, transforms.sgd, settings, sizes, steps=steps, every=every, key=KEY)
