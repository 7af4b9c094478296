"""Spectral normalisation against singular value decompositions of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn.activation import Activation
from dlcore.nn.combine import activations, serial
from dlcore.nn.conv import Conv
from dlcore.nn.dense import Dense
from dlcore.nn.norm import BatchNorm
from dlcore.nn.reshape import Flatten
from dlcore.nn.spectral import SpectralNorm, spectral_norm


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def largest(kernel):
    return np.linalg.svd(np.reshape(kernel, (-1, np.shape(kernel)[-1])), compute_uv=False)[0]


def network():
    return serial(Conv(5, 3, stride=2), Activation("leaky_relu"), Flatten(), Dense(4))


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (3, 3, 2, 5), (1, 4)])
def test_norm_is_the_largest_singular_value(float64, shape):
    rng = np.random.default_rng(0)
    kernel, start = jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.normal(size=shape[-1]))
    sigma, vector = spectral_norm(kernel, start, 500)
    np.testing.assert_allclose(sigma, largest(kernel), rtol=1e-8)
    assert float(jnp.linalg.norm(vector)) == pytest.approx(1)
    rough = [float(spectral_norm(kernel, start, n)[0]) for n in (1, 2, 5)]
    assert rough == sorted(rough) and rough[-1] <= largest(kernel) * (1 + 1e-12)


def test_gradient_is_the_outer_product_of_singular_vectors(float64):
    rng = np.random.default_rng(1)
    kernel, start = jnp.asarray(rng.normal(size=(6, 4))), jnp.asarray(rng.normal(size=4))
    gradient = jax.grad(lambda k: spectral_norm(k, start, 500)[0])(kernel)
    u, _, v = np.linalg.svd(kernel)
    np.testing.assert_allclose(gradient, np.outer(u[:, 0], v[0]), atol=1e-7)


def test_every_kernel_is_divided_by_its_norm():
    model, x = network(), jax.random.normal(jax.random.key(0), (3, 6, 6, 2))
    wrapped = SpectralNorm(model, iterations=200)
    params, state = wrapped.init(jax.random.key(1), x)
    params = jax.tree.map(lambda p: 7.0 * p + 0.1, params)
    out, state = wrapped.apply(params, state, x, train=True)
    scaled = {
        part: {**leaves, "kernel": leaves["kernel"] / largest(leaves["kernel"])} for part, leaves in params.items()
    }
    np.testing.assert_allclose(out, model.apply(scaled, {}, x)[0], rtol=1e-4, atol=1e-5)
    assert state["vector"].keys() == {"conv_0/kernel", "dense_0/kernel"}


def test_training_iterates_and_evaluation_only_uses_the_vectors():
    x = jnp.ones((2, 5))
    wrapped = SpectralNorm(Dense(4))
    params, state = wrapped.init(jax.random.key(0), x)
    params = {**params, "kernel": jax.random.normal(jax.random.key(3), (5, 4))}
    first, moved = wrapped.apply(params, state, x, train=True)
    again, same = wrapped.apply(params, moved, x)
    np.testing.assert_array_equal(moved["vector"]["kernel"], same["vector"]["kernel"])
    np.testing.assert_allclose(first, again, rtol=1e-5)
    assert not np.allclose(state["vector"]["kernel"], moved["vector"]["kernel"])
    for _ in range(300):
        _, moved = wrapped.apply(params, moved, x, train=True)
    np.testing.assert_allclose(
        wrapped.apply(params, moved, x)[0], x @ params["kernel"] / largest(params["kernel"]), rtol=1e-5
    )


def test_normalised_layers_are_lipschitz_from_the_start():
    wrapped = SpectralNorm(serial(Dense(30), Activation("relu"), Dense(1)))
    a, b = jax.random.normal(jax.random.key(0), (2, 200, 8))
    params, state = wrapped.init(jax.random.key(1), a)
    params = {name: {"kernel": 50 * part["kernel"], "bias": part["bias"]} for name, part in params.items()}
    difference = jnp.abs(wrapped.apply(params, state, a)[0] - wrapped.apply(params, state, b)[0])[:, 0]
    assert (difference <= 1.05 * jnp.linalg.norm(a - b, axis=-1)).all() and float(difference.max()) > 0.1


def test_state_of_the_model_passes_through_and_paths_stay():
    x = jax.random.normal(jax.random.key(0), (8, 3))
    wrapped = SpectralNorm(serial(Dense(4), BatchNorm(), Dense(2)))
    params, state = wrapped.init(jax.random.key(1), x)
    assert state.keys() == {"vector", "model"} and params.keys() == {"dense_0", "batchnorm_0", "dense_1"}
    _, new = wrapped.apply(params, state, x, train=True)
    assert (new["model"]["batchnorm_0"]["mean"] != 0).any()
    out, found = activations(wrapped, params, state, x)
    assert set(found) == {"dense_0", "batchnorm_0", "dense_1"}
    np.testing.assert_array_equal(out, wrapped.apply(params, state, x)[0])


def test_errors():
    with pytest.raises(ValueError, match="iterations"):
        SpectralNorm(Dense(2), iterations=0)
    with pytest.raises(ValueError, match="no leaf called kernel or embedding"):
        SpectralNorm(Flatten()).init(jax.random.key(0), jnp.ones((2, 3)))
