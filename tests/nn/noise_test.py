"""Noise and dropout against sums over all masks, Tikhonov's penalty and Hessians (lecture 11.3–11.5, 12.4–12.8)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.losses import activity_l1, l1, soft_sharing
from dlcore.nn import Dense, Noise, add_noise, drop, dropout, scale_weights, weight_noise

KEY = jax.random.key(0)
MASKS = np.array(list(itertools.product([0.0, 1.0], repeat=6)), np.float32)
W = jax.random.normal(KEY, (6, 3))
B = jnp.asarray([0.3, -0.2, 0.0])
X = jax.random.normal(jax.random.key(1), (4, 6))


def weights_of(rate):
    return np.prod(np.where(MASKS > 0, 1 - rate, rate), axis=1)


@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_weight_scaling_is_the_normalised_geometric_mean_of_all_masks(rate):
    logs = jax.nn.log_softmax((X[None] * MASKS[:, None]) @ W + B)
    geometric = jnp.exp(jnp.tensordot(weights_of(rate), logs, 1))
    expected = geometric / geometric.sum(-1, keepdims=True)
    np.testing.assert_allclose(jax.nn.softmax(X @ scale_weights(W, rate) + B), expected, rtol=1e-5)
    arithmetic = jnp.tensordot(weights_of(rate), jnp.exp(logs), 1)
    assert np.abs(arithmetic - expected).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_many_masks_tend_to_the_sum_over_all(rate):
    exact = jnp.tensordot(weights_of(rate), jax.nn.softmax((X[None] * MASKS[:, None]) @ W + B), 1)

    @jax.jit
    def draws(key):
        keys = jax.random.split(key, 20_000)
        return jax.vmap(lambda key: jax.nn.softmax(drop(X, rate, key=key) @ W + B))(keys)

    found = draws(KEY)
    standard_error = found.std(0) / np.sqrt(20_000)
    assert (jnp.abs(found.mean(0) - exact) < 5 * standard_error).all()
    np.testing.assert_allclose(drop(X, rate, key=KEY), dropout(X, rate, key=KEY) * (1 - rate), rtol=1e-6)


def test_noise_on_inputs_of_a_linear_model_is_tikhonovs_penalty():
    w, y, std = W[:, 0], jnp.asarray([1.0, -1.0, 0.5, 2.0]), 0.4

    @jax.jit
    def loss(key):
        keys = jax.random.split(key, 40_000)
        return jax.vmap(lambda key: jnp.square(add_noise(X, std, key=key) @ w - y).mean())(keys)

    found = loss(KEY)
    expected = jnp.square(X @ w - y).mean() + std**2 * jnp.square(w).sum()
    assert abs(found.mean() - expected) < 5 * found.std() / 200
    assert std**2 * jnp.square(w).sum() > 20 * found.std() / 200, "the penalty is larger than the tolerance"


@pytest.mark.slow
def test_noise_on_weights_adds_half_the_trace_of_the_hessian():
    model, std = Dense(1), 0.3
    params, _ = model.init(KEY, X)
    noisy = weight_noise(model, std)
    loss = lambda params, key: jnp.square(noisy.apply(params, {}, X, train=True, key=key)[0]).mean()  # noqa: E731
    values = jax.jit(jax.vmap(loss, (None, 0)))(params, jax.random.split(KEY, 40_000))
    plain = jnp.square(model.apply(params, {}, X)[0]).mean()
    penalty = std**2 * (jnp.square(X).sum(-1).mean() + 1)
    assert abs(values.mean() - plain - penalty) < 5 * values.std() / 200
    np.testing.assert_array_equal(noisy.apply(params, {}, X)[0], model.apply(params, {}, X)[0])
    assert float(jnp.abs(jax.grad(loss)(params, KEY)["kernel"]).min()) > 0


def test_noise_layer():
    layer = Noise(0.5)
    out = layer.apply({}, {}, jnp.zeros((100, 100)), train=True, key=KEY)[0]
    assert abs(float(out.std()) - 0.5) < 0.02
    np.testing.assert_array_equal(layer.apply({}, {}, X)[0], X)
    with pytest.raises(ValueError, match="needs a key"):
        layer.apply({}, {}, X, train=True)
    with pytest.raises(ValueError, match=r"must lie in \[0, ∞\), got -1"):
        Noise(-1.0)


def test_soft_sharing_draws_two_trees_together():
    a, b = {"w": jnp.asarray([1.0, 2.0])}, {"w": jnp.asarray([0.0, 4.0])}
    assert float(soft_sharing(a, b)) == 0.5 * (1 + 4)
    np.testing.assert_array_equal(jax.grad(soft_sharing)(a, b)["w"], [1.0, -2.0])
    np.testing.assert_array_equal(jax.grad(soft_sharing, 1)(a, b)["w"], [-1.0, 2.0])
    with pytest.raises(ValueError, match="same structure"):
        soft_sharing(a, {"v": a["w"]})
    with pytest.raises(ValueError, match="same shapes"):
        soft_sharing(a, {"w": jnp.ones(3)})


def test_activity_penalty():
    h = jnp.asarray([[[1.0, -2.0]], [[0.0, 3.0]]])
    np.testing.assert_array_equal(activity_l1(h), [3.0, 3.0])
    np.testing.assert_array_equal(jax.grad(lambda h: activity_l1(h).sum())(h), [[[1, -1]], [[0, 1]]])
    assert activity_l1(jnp.ones((0, 3))).shape == (0,)


def test_zero_weights_stay_zero_under_l1():
    params = {"kernel": jnp.asarray([[0.0, -0.0], [2.0, -3.0]]), "bias": jnp.zeros(2)}
    np.testing.assert_array_equal(jax.grad(l1)(params)["kernel"], [[0, 0], [1, -1]])
    assert float(l1(params)) == 5 and np.isnan(l1({"kernel": jnp.asarray([jnp.nan])}))
    assert float(l1({"kernel": jnp.asarray([-jnp.inf])})) == np.inf
