"""Activations: closed forms, and finite values and gradients at ±1e4 (lecture 8.5)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from dlcore.backprop import activation_forward
from dlcore.backprop._activation import SLOPES
from dlcore.nn import _activation as a

X = np.linspace(-6, 6, 49)
FORMS = {
    "linear": lambda x: x,
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


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_by_name_is_a_layer_over_the_last_axis(name):
    logits = np.random.default_rng(0).normal(size=(2, 3, 4))
    out, _ = a.Activation(name).apply({}, {}, jnp.asarray(logits))
    np.testing.assert_allclose(out, getattr(scipy.special, name)(logits, -1), rtol=1e-5, atol=1e-6)


def test_unknown_name():
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        a.Activation("rellu")
    with pytest.raises(ValueError, match='no activation is "linear"'):
        a.Activation(None)


KINKS = {"relu": ([0], [0]), "leaky_relu": ([0], [1]), "elu": ([0], [1]), "hard_tanh": ([-1, 1], [1, 1])}


@pytest.mark.sampled
@pytest.mark.parametrize("name", KINKS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_slopes_at_kinks_are_the_stated_ones_also_written_out(name, dtype):
    at, slopes = KINKS[name]
    x = jnp.asarray([*at, -0.0] if at == [0] else at, dtype)
    expected = [*slopes, *slopes] if at == [0] else slopes
    np.testing.assert_array_equal(jax.vmap(jax.grad(a.by_name(name)))(x), expected)
    np.testing.assert_array_equal(activation_forward(x, name)[1], expected)


@pytest.mark.sampled
@pytest.mark.parametrize("name", SLOPES)
def test_slopes_beside_kinks_are_those_of_autodiff(name):
    x = jnp.asarray([-1.5, -1, -0.999, -1e-3, 0, 1e-3, 0.999, 1, 1.001, 40, -40], jnp.float32)
    expected = jax.vmap(jax.grad(a.by_name(name)))(x)
    np.testing.assert_allclose(activation_forward(x, name)[1], expected, rtol=1e-5, atol=1e-6)


def test_what_mixes_units_has_no_slope():
    with pytest.raises(ValueError, match="softmax is not element-wise"):
        activation_forward(jnp.ones((2, 3)), "softmax")
