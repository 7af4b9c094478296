"""The same function at every symmetric point of parameter space (lecture 8.4, 8.6)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import MLP, count_symmetries, flip_units, fold_linear, permute_units, symmetries
from dlcore.nn import Dense, serial

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def start(model, seed=0):
    """Params with biases that are not zero."""
    like, _ = jax.eval_shape(model.init, jax.random.key(0), X)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32), like)


def outputs(model, many):
    """Outputs for params stacked from a list."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    return jax.jit(jax.vmap(lambda params: model.apply(params, {}, jnp.asarray(X))[0]))(stacked)


def distinct(many):
    return len({b"".join(np.asarray(leaf + 0.0).tobytes() for leaf in jax.tree.leaves(params)) for params in many})


@pytest.mark.parametrize("layer", [0, 1])
def test_every_symmetry_of_three_units_is_the_same_function(layer):
    model = MLP((3, 3), 2, activation="tanh")
    params = start(model)
    found = list(symmetries(params, layer))
    assert len(found) == distinct(found) == count_symmetries((3,)) == 2**3 * 6
    values = outputs(model, [params, *found])
    np.testing.assert_allclose(values[1:], np.broadcast_to(values[0], values[1:].shape), rtol=1e-4, atol=1e-5)


def test_flips_are_no_symmetry_of_relu_but_permutations_are():
    model = MLP((3,), 2, activation="relu")
    params = start(model)
    permuted = list(symmetries(params, 0, odd=False))
    assert len(permuted) == distinct(permuted) == count_symmetries((3,), odd=False) == 6
    values = outputs(model, [params, *permuted, flip_units(params, 0, (1, -1, 1))])
    np.testing.assert_allclose(values[1:-1], np.broadcast_to(values[0], values[1:-1].shape), rtol=1e-4, atol=1e-5)
    assert np.abs(values[-1] - values[0]).max() > 0.1


@pytest.mark.slow
def test_count_of_a_network_is_the_product():
    assert count_symmetries((3, 2)) == 48 * 8
    model = MLP((3, 2), 1, activation="tanh")
    every = [both for first in symmetries(start(model), 0) for both in symmetries(first, 1)]
    assert len(every) == distinct(every) == count_symmetries((3, 2))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_layers_fold_into_one(bias):
    model = serial(Dense(5, bias=bias), Dense(3, bias=bias), Dense(2, bias=bias))
    params = start(model)
    folded = fold_linear(params)
    assert folded["kernel"].shape == (4, 2)
    expected = model.apply(params, {}, jnp.asarray(X))[0]
    np.testing.assert_allclose(X @ folded["kernel"] + folded["bias"], expected, rtol=1e-4, atol=1e-5)


def test_bad_input():
    params = start(MLP((3,), 2))
    with pytest.raises(ValueError, match="permutation"):
        permute_units(params, 0, (0, 1, 1))
    with pytest.raises(ValueError, match="signs"):
        flip_units(params, 0, (1, 0, 1))
    with pytest.raises(ValueError, match="no hidden layer"):
        permute_units(params, 1, (0, 1))
    with pytest.raises(ValueError, match="widths"):
        count_symmetries((0,))
    with pytest.raises(ValueError, match="dense_0"):
        fold_linear({"conv_0": {}})
