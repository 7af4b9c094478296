"""The optimisers written out against optax, step by step, and against their equations (lecture 6.3–7)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.optim import transforms
from dlcore.optim.schedules import cosine

PARAMS = {"kernel": jnp.arange(6.0).reshape(2, 3) / 3 - 1, "bias": jnp.asarray([0.5, -0.5, 0.0])}
RATE = cosine(0.05, 100, 0.1)

PAIRS = {
    "sgd": (transforms.sgd(0.05), optax.sgd(0.05)),
    "sgd_scheduled": (transforms.sgd(RATE), optax.sgd(RATE)),
    "momentum": (transforms.momentum(0.02, 0.8), optax.sgd(0.02, 0.8)),
    "nesterov": (transforms.nesterov(0.02, 0.8), optax.sgd(0.02, 0.8, nesterov=True)),
    # With δ = 0 and sums from 0 the two definitions of AdaGrad agree.
    "adagrad": (transforms.adagrad(0.1, 0.0), optax.adagrad(0.1, initial_accumulator_value=0.0, eps=0.0)),
    "rmsprop": (transforms.rmsprop(0.01, 0.95, 1e-6), optax.rmsprop(0.01, 0.95, 1e-6)),
    "adam": (transforms.adam(0.05), optax.adam(0.05)),
    "adam_scheduled": (transforms.adam(RATE, 0.8, 0.99, 1e-5), optax.adam(RATE, 0.8, 0.99, 1e-5)),
    "adamw": (transforms.adamw(RATE, weight_decay=0.1), optax.adamw(RATE, weight_decay=0.1)),
}


def loss(params):
    x = jnp.asarray([[1.0, -2.0], [0.5, 0.3], [-1.0, 1.5]])
    return jnp.mean(jnp.square(jnp.tanh(x @ params["kernel"] + params["bias"]) - x[:, :1])) * 5


def walk(tx, steps=100):
    def step(carry, _):
        params, memory = carry
        updates, memory = tx.update(jax.grad(loss)(params), memory, params)
        params = optax.apply_updates(params, updates)
        return (params, memory), params

    return jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), length=steps)[1]


@pytest.mark.sampled
@pytest.mark.parametrize("name", PAIRS)
def test_same_trajectory_as_optax_over_a_hundred_steps(name):
    with jax.enable_x64(False):
        ours, theirs = jax.jit(lambda: tuple(walk(tx) for tx in PAIRS[name]))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), ours, theirs)
    assert (np.abs(ours["kernel"][-1] - PARAMS["kernel"]) > 1e-2).any()


def test_adagrad_adds_delta_outside_the_root():
    tx, g = transforms.adagrad(1.0, 0.5), jnp.asarray([3.0, -4.0, 0.0])
    memory = tx.init(g)
    first, memory = tx.update(g, memory)
    second, _ = tx.update(g, memory)
    np.testing.assert_allclose(first, -g / (0.5 + jnp.abs(g)), rtol=1e-6)
    np.testing.assert_allclose(second, -g / (0.5 + np.sqrt(2) * jnp.abs(g)), rtol=1e-6)
    still, _ = transforms.adagrad(1.0, 0.0).update(g, memory)
    assert still[2] == 0 and np.isfinite(still).all()


def test_momentum_is_velocity_and_nesterov_looks_ahead_along_it():
    g, rate, alpha = [jnp.asarray([1.0]), jnp.asarray([-2.0])], 0.1, 0.5
    tx = transforms.momentum(rate, alpha)
    memory, updates = tx.init(g[0]), []
    for gradient in g:
        update, memory = tx.update(gradient, memory)
        updates.append(float(update[0]))
    np.testing.assert_allclose(updates, [-0.1, 0.5 * -0.1 + 0.2], rtol=1e-6)
    # θ̃ = θ + αv, where θ and v follow v ← αv − ε∇f(θ̃), θ ← θ + v on f(θ) = ½θ².
    theta, velocity, ahead = 1.0, 0.0, 1.0
    tx = transforms.nesterov(rate, alpha)
    memory = tx.init(jnp.ones(1))
    for _ in range(5):
        update, memory = tx.update(jnp.full(1, ahead), memory)
        ahead += float(update[0])
        velocity = alpha * velocity - rate * (theta + alpha * velocity)
        theta += velocity
        assert ahead == pytest.approx(theta + alpha * velocity, rel=1e-5)


def test_adam_starts_with_steps_of_the_rate_and_adamw_needs_params():
    g = jnp.asarray([1e-3, -50.0])
    update, _ = transforms.adam(0.1).update(g, transforms.adam(0.1).init(g))
    np.testing.assert_allclose(update, [-0.1, 0.1], rtol=1e-4)
    with pytest.raises(ValueError, match="needs the params"):
        transforms.adamw(0.1).update(g, transforms.adamw(0.1).init(g))
