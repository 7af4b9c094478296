"""Members trained at once are members trained one by one; the error of an average (lecture 12.1–12.3)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from turns import seconds

from dlcore.losses import softmax_cross_entropy
from dlcore.networks import CNN, MLP
from dlcore.nn import Activation, BatchNorm, Conv, Dense, Dropout, Flatten, serial
from dlcore.parallel.mesh import make_mesh
from dlcore.train import average_probabilities, bootstrap_counts, bootstrap_rows, ensemble, error_model, member

KEY = jax.random.key(0)
NET = serial(Dense(6, bias=False), BatchNorm(), Activation("tanh"), Dropout(0.2), Dense(3))
X = jax.random.normal(KEY, (16, 4))
CONVOLUTIONAL = serial(Conv(4, 3, bias=False), BatchNorm(), Activation("tanh"), Flatten(), Dropout(0.2), Dense(3))
IMAGES = jax.random.normal(KEY, (16, 3, 3, 2))
Y = jnp.arange(16) % 3


def test_bootstrap_draws_with_replacement():
    rows = np.asarray(bootstrap_rows(KEY, 5000, 3))
    assert rows.min() >= 0 and rows.max() < 5000
    missing = [1 - len(np.unique(r)) / 5000 for r in rows]
    np.testing.assert_allclose(missing, np.exp(-1), atol=0.02)
    assert (rows[0] != rows[1]).mean() > 0.99
    counts = bootstrap_counts(KEY, 5000, 3)
    np.testing.assert_array_equal(counts, [np.bincount(r, minlength=5000) for r in rows])
    with pytest.raises(ValueError, match="must be positive"):
        bootstrap_rows(KEY, 0, 3)


TX = optax.adam(0.05)


@functools.cache
def compiled(model):
    """A step with weighted losses, the weights [members, n] or [n]."""

    def loss(params, state, key, x, weights):
        logits, state = model.apply(params, state, x, train=True, key=key)
        nats = softmax_cross_entropy(logits, jnp.broadcast_to(Y, logits.shape[:-1]))
        return (weights * nats).sum(), state

    @jax.jit
    def step(params, state, opt, *given):
        gradient, state = jax.grad(loss, has_aux=True)(params, state, *given)
        updates, opt = TX.update(gradient, opt, params)
        return optax.apply_updates(params, updates), state, opt

    return step


def train(model, x, params, state, keys, weights, steps=4):
    opt = TX.init(params)
    for key in keys[:steps]:
        params, state, opt = compiled(model)(params, state, opt, key, x, weights)
    return params, state


@pytest.mark.slow
@pytest.mark.parametrize(("net", "x"), [(NET, X), (CONVOLUTIONAL, IMAGES)], ids=["dense", "convolutional"])
def test_members_trained_at_once_are_members_trained_alone(net, x):
    k, keys = 3, jax.random.split(jax.random.key(3), 4)
    both = ensemble(net, k)
    weights = bootstrap_counts(KEY, 16, k).astype(jnp.float32)
    params, state = train(both, x, *jax.jit(both.init)(jax.random.key(1), x), keys, weights)
    init = jax.jit(net.init)
    for i, key in enumerate(jax.random.split(jax.random.key(1), k)):
        own = [jax.random.split(step, k)[i] for step in keys]
        expected = train(net, x, *init(key, x), own, weights[i])
        found = (member(params, i), member(state, i))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), found, expected)
    logits = both.apply(params, state, x)[0]
    np.testing.assert_allclose(logits[1], net.apply(member(params, 1), member(state, 1), x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_members_can_lie_on_devices_of_their_own():
    both = ensemble(NET, 8)
    params, state = both.init(jax.random.key(1), X)
    mesh = make_mesh(8)
    split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    apart = jax.tree.map(lambda leaf: jax.device_put(leaf, split), (params, state))
    run = jax.jit(lambda p, s: both.apply(p, s, X)[0])
    logits = run(*apart)
    assert len(logits.sharding.device_set) == 8
    np.testing.assert_allclose(logits, run(params, state), rtol=1e-5, atol=1e-6)


def test_average_of_probabilities():
    logits = 3 * jax.random.normal(KEY, (4, 5, 3))
    found = average_probabilities(logits)
    np.testing.assert_allclose(jnp.exp(found), jax.nn.softmax(logits).mean(0), rtol=1e-5)
    assert np.isfinite(average_probabilities(1e4 * logits)).any()


@pytest.mark.parametrize("correlation", [0.0, 0.4, 1.0])
def test_error_of_the_average_on_simulated_errors(correlation):
    k, n, v = 5, 200_000, 2.0
    rng = np.random.default_rng(0)
    common, own = rng.standard_normal(n), rng.standard_normal((k, n))
    errors = np.sqrt(v) * (np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own)
    found = error_model(jnp.asarray(errors, jnp.float32))
    np.testing.assert_allclose(found.v, v, rtol=0.01)
    np.testing.assert_allclose(found.c, v * correlation, atol=0.02)
    np.testing.assert_allclose(found.predicted, v / k + (k - 1) / k * v * correlation, atol=0.02)
    np.testing.assert_allclose(found.measured, np.square(errors.mean(0)).mean(), rtol=1e-4)
    np.testing.assert_allclose(found.predicted, found.measured, rtol=1e-4)
    with pytest.raises(ValueError, match="two members"):
        error_model(jnp.ones((1, 4)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "shape", "k", "limit"),
    [
        # A step of one takes .1 ms on a CPU with AVX2 and .04 with AVX-512, where ten cost .5 to .8 of ten steps.
        (MLP((64,), 10), (64, 8, 8, 1), 10, 0.9),
        # What bounds these is reading and writing the states of k networks, which no longer fit the caches.
        (MLP((256, 128), 10), (64, 28, 28, 1), 5, 1.0),
        (MLP((256, 128), 10), (64, 28, 28, 1), 10, 1.0),
        # 1.34 to 1.41 with AVX-512, where a convolution of one network is faster than one of groups.
        (CNN((16, 32), 10, hidden=64), (64, 32, 32, 3), 5, 1.5),
    ],
    ids=["digits", "clothes", "ten", "cnn"],
)
def test_k_members_cost_less_than_k_trainings(model, shape, k, limit):
    tx, x, labels = optax.adam(1e-3), jax.random.normal(KEY, shape), jnp.arange(shape[0]) % 10

    def training(model):
        """A function that takes 20 steps."""
        params, state = jax.jit(model.init)(KEY, x)

        def objective(params, state):
            logits, state = model.apply(params, state, x, train=True)
            return softmax_cross_entropy(logits, jnp.broadcast_to(labels, logits.shape[:-1])).mean(-1).sum(), state

        @functools.partial(jax.jit, donate_argnums=0)
        def step(own):
            params, state, opt = own
            gradient, state = jax.grad(objective, has_aux=True)(params, state)
            updates, opt = tx.update(gradient, opt, params)
            return optax.apply_updates(params, updates), state, opt

        holder = [(params, state, tx.init(params))]

        def run():
            for _ in range(20):
                holder[0] = step(holder[0])
            return holder[0]

        return run

    runs = [training(model), training(ensemble(model, k))]
    one, many = seconds(*runs, turns=12)
    print(f"{k} at once: {many / one:.2f} trainings of {one / 20 * 1e3:.2f} ms a step, {many / one / k:.2f} k")
    assert many < limit * k * one
