"""Sizes of signals through twenty layers, by scheme (lecture 10.2–10.6)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import init, relu, tanh
from dlcore.studies import scaling

KEY = jax.random.key(0)


def study(initializer, activation):
    return jax.jit(lambda key: scaling(key, initializer, activation, width=256, examples=64))(KEY)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("initializer", "activation", "factor"),
    [
        (init.he_normal, relu, 1.0),
        (init.lecun_normal, lambda x: x, 1.0),
        (init.orthogonal(), lambda x: x, 1.0),
        (init.lecun_normal, relu, np.sqrt(0.5)),
        (init.normal(0.1), relu, np.sqrt(0.01 * 256 / 2)),
        (init.normal(0.01), lambda x: x, 0.16),
    ],
    ids=["he_relu", "lecun_linear", "orthogonal_linear", "lecun_relu_dies", "too_large_explodes", "too_small_dies"],
)
def test_every_layer_changes_sizes_by_the_derived_factor(initializer, activation, factor):
    found = study(initializer, activation)
    layers = np.arange(1, 21)
    np.testing.assert_allclose(np.log(found.activation) / layers, np.log(factor), atol=0.08)
    np.testing.assert_allclose(np.log(found.gradient) / layers[::-1], np.log(factor), atol=0.08)


@pytest.mark.slow
def test_every_number_belongs_to_its_layer():
    """A deep narrow tanh network in NumPy: layer l's slopes and matrix, not those of a neighbour."""
    depth, width, examples = 4, 5, 3
    found = scaling(KEY, init.normal(0.8), tanh, depth=depth, width=width, examples=examples)
    keys = jax.random.split(KEY, depth + 2)
    kernels = [np.asarray(init.normal(0.8)(key, (width, width)), np.float64) for key in keys[:depth]]
    h = [np.asarray(jax.random.normal(keys[-2], (examples, width)), np.float64)]
    for kernel in kernels:
        h.append(np.tanh(h[-1] @ kernel))
    size = lambda a: np.sqrt(np.square(a).mean())  # noqa: E731
    np.testing.assert_allclose(found.activation, [size(a) for a in h[1:]], rtol=1e-5)
    back, gradients = np.asarray(jax.random.normal(keys[-1], (examples, width)), np.float64), []
    for kernel, out in zip(kernels[::-1], h[:0:-1], strict=True):
        back = (back * (1 - out**2)) @ kernel.T
        gradients.append(size(back))
    np.testing.assert_allclose(found.gradient, gradients[::-1], rtol=1e-5)
    jacobians = [(1 - out[0] ** 2)[:, None] * kernel.T for kernel, out in zip(kernels, h[1:], strict=True)]
    np.testing.assert_allclose(found.singular, np.linalg.svd(np.stack(jacobians), compute_uv=False), rtol=1e-4)


@pytest.mark.slow
def test_singular_values():
    np.testing.assert_allclose(study(init.orthogonal(), lambda x: x).singular, 1, atol=1e-4)
    found = study(init.he_normal, relu)
    # Squares sum to the squared Frobenius norm: half of the units pass, each with 256 weights of variance 2/256.
    np.testing.assert_allclose(np.square(found.singular).sum(-1).mean(), 256, rtol=0.1)


@pytest.mark.slow
def test_tanh_shrinks_slowly_and_zeros_are_dead():
    found = study(init.lecun_normal, tanh).activation
    assert 0.1 < found[-1] < found[0] < 1
    dead = study(init.zeros, tanh)
    assert (dead.activation == 0).all() and (dead.gradient == 0).all()


def test_a_network_of_zeros_does_not_train():
    params = [jnp.zeros((3, 4)), jnp.zeros((4, 2))]
    x, y = jax.random.normal(KEY, (8, 3)), jnp.ones((8, 2))
    gradient = jax.grad(lambda p: jnp.square(tanh(x @ p[0]) @ p[1] - y).mean())(params)
    assert all((g == 0).all() for g in gradient)
