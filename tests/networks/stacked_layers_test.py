"""Layers that are pretrained one by one, against their formulas (lecture 21.4)."""

import jax
import numpy as np
import pytest

from dlcore.networks import SigmoidLayer, StackedClassifier, layer_name, sigmoid_uniform, through, unrolled

KEY = jax.random.key(0)
X = jax.random.uniform(KEY, (5, 4))


def sigmoid(a):
    return 1 / (1 + np.exp(-np.asarray(a, np.float64)))


def encoder(seed, n, m):
    kernel, bias = jax.random.normal(jax.random.key(seed), (n + 1, m)), jax.random.normal(jax.random.key(-seed), (m,))
    return {"dense": {"kernel": kernel[:n], "bias": bias}}


def test_the_classifier_is_its_layers_and_a_linear_head():
    encoders = [encoder(1, 4, 3), encoder(2, 3, 2)]
    model = StackedClassifier((3, 2), 5)
    params, state = model.init(KEY, X)
    params = unrolled(params, encoders)
    h = np.asarray(X)
    for layer in encoders:
        h = sigmoid(h @ layer["dense"]["kernel"] + layer["dense"]["bias"])
    np.testing.assert_allclose(through(encoders, X), h, rtol=1e-5)
    expected = h @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(model.apply(params, state, X)[0], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(SigmoidLayer(3).apply(encoders[0], {}, X)[0], through(encoders[:1], X), rtol=1e-6)


def test_unrolling_copies_to_the_bit_and_nothing_is_the_random_start():
    params, _ = StackedClassifier((3, 2), 5).init(KEY, X)
    jax.tree.map(np.testing.assert_array_equal, unrolled(params, []), params)
    one = encoder(1, 4, 3)
    found = unrolled(params, [one])
    jax.tree.map(np.testing.assert_array_equal, found, {**params, layer_name(0): one})
    with pytest.raises(ValueError, match=r"encoder 1 has .* and layer_1 of the classifier"):
        unrolled(params, [encoder(1, 4, 2)])
    with pytest.raises(ValueError, match="layer_3 of the classifier None"):
        unrolled(params, [one, encoder(2, 3, 2), encoder(3, 2, 2)])


def test_the_start_has_four_times_the_bound_of_glorot():
    kernel = np.asarray(sigmoid_uniform(KEY, (300, 100)))
    bound = 4 * np.sqrt(6 / 400)
    assert 0.99 * bound < np.abs(kernel).max() <= bound and abs(kernel.std() - bound / np.sqrt(3)) < 0.01 * bound
