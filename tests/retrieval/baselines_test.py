"""Codes without a network: angles of random hyperplanes, signs by hand, and that turning never hurts (lecture 20.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.retrieval import _baselines as baselines
from dlcore.retrieval import _pca as pca


def data(n=300, d=5):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, d)) * 2.0 ** -np.arange(d) @ np.linalg.qr(rng.normal(size=(d, d)))[0] + 4).astype("f")


def test_random_hyperplanes_differ_as_often_as_the_angle_is_wide():
    a, b, mean = np.array([1.0, 0, 0]), np.array([1.0, 1, 0]), np.array([2.0, 3, 4])
    code = baselines.random_hyperplanes(jnp.float32(mean), 20_000, key=jax.random.key(0))
    x, y = baselines.encode(code, jnp.float32(np.stack([mean + a, mean + b])))
    assert float((x != y).mean()) == pytest.approx(1 / 4, abs=0.01)


def test_principal_signs_are_the_signs_of_the_codes():
    x = data()
    fitted = pca.fit_svd(jnp.asarray(x), 3)
    found = baselines.encode(baselines.principal_signs(fitted), x)
    np.testing.assert_array_equal(found, np.asarray(pca.transform(fitted, x)) >= 0)


def quantisation_error(fitted, code, x):
    z = np.asarray(pca.transform(fitted, x))
    rotation = np.asarray(code.directions) @ np.asarray(fitted.components).T
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(len(rotation)), atol=1e-4)
    turned = z @ rotation.T
    return np.square(turned - np.where(turned >= 0, 1, -1)).sum()


def test_every_turn_of_itq_brings_codes_nearer_to_the_corners():
    x = data()
    fitted = pca.fit_svd(jnp.asarray(x), 4)
    turned = [baselines.iterative_quantisation(fitted, x, key=jax.random.key(1), iterations=i) for i in (0, 1, 3, 30)]
    errors = [quantisation_error(fitted, code, x) for code in turned]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.9 * errors[0]


def test_another_number_of_features_is_refused():
    code = baselines.random_hyperplanes(jnp.zeros(3), 4, key=jax.random.key(0))
    with pytest.raises(ValueError, match="expected 3 features, as fitted, got 2"):
        baselines.encode(code, jnp.zeros((1, 2)))
