"""Activations: closed forms, and finite values and gradients at ±1e4 (lecture 8.5)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from dlcore.nn import activation as a

X = np.linspace(-6, 6, 49)
FORMS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "gelu": lambda x: x * scipy.stats.norm.cdf(x),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("name", FORMS)
def test_closed_forms(name):
    np.testing.assert_allclose(a.by_name(name)(jnp.asarray(X)), FORMS[name](X), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("x", [1e4, -1e4, 0.0])
def test_finite_at_extremes(name, x):
    value, slope = jax.value_and_grad(a.by_name(name))(x)
    assert np.isfinite(value) and np.isfinite(slope)


def test_softmax():
    logits = np.random.default_rng(0).normal(size=(4, 5)) * 5
    np.testing.assert_allclose(a.softmax(jnp.asarray(logits)), scipy.special.softmax(logits, -1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(a.log_softmax(jnp.asarray(logits)), scipy.special.log_softmax(logits, -1), rtol=1e-5)
    extreme = jnp.array([1e4, -1e4, 0.0])
    assert np.isfinite(a.log_softmax(extreme)).all() and np.isfinite(jax.jacobian(a.softmax)(extreme)).all()


def test_unknown_name():
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        a.Activation("rellu")
