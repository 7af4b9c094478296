"""Masks, kinks, narrow dtypes and traced settings of the losses: what must not enter does not, and no digit is lost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from dlcore.losses import _classification as classification
from dlcore.losses import _penalty as penalty
from dlcore.losses import _regression as regression

SHAPE = (4, 3)
X, Y = jax.random.normal(jax.random.key(0), (2, *SHAPE))
WHERE = jnp.arange(12).reshape(SHAPE) % 5 != 2
SCALED = {"gaussian_nll": regression.gaussian_nll, "laplace_nll": regression.laplace_nll}
PLAIN = {
    "squared_error": regression.squared_error,
    "absolute_error": regression.absolute_error,
    "huber": regression.huber,
    "sigmoid_cross_entropy": classification.sigmoid_cross_entropy,
}
BAD = [jnp.nan, jnp.inf, -jnp.inf, 0.0, -1.0]


@pytest.mark.sampled
@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("bad", BAD)
def test_nothing_behind_a_mask_enters_a_density(name, bad):
    loss, std = SCALED[name], 0.5 + jnp.square(X)
    spoilt = [jnp.where(WHERE, array, bad) for array in (X, Y, std)]
    value = loss(*spoilt, where=WHERE)
    np.testing.assert_allclose(value, np.where(WHERE, loss(X, Y, std), 0), rtol=1e-6)
    for i, gradient in enumerate(jax.grad(lambda *a: loss(*a, where=WHERE).sum(), (0, 1, 2))(*spoilt)):
        clean = jax.grad(lambda *a: jnp.where(WHERE, loss(*a), 0).sum(), i)(X, Y, std)
        np.testing.assert_allclose(gradient, np.where(WHERE, clean, 0), rtol=1e-5)
    nowhere = jnp.zeros(SHAPE, bool)
    value, gradient = jax.value_and_grad(lambda s: loss(X, Y, s, where=nowhere).sum())(jnp.float32(bad))
    assert float(value) == 0 and float(gradient) == 0


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("bad", BAD[:3])
def test_nothing_behind_a_mask_enters_an_error(name, bad):
    loss, target = PLAIN[name], jax.nn.sigmoid(Y)
    spoilt = [jnp.where(WHERE, array, bad) for array in (X, target)]
    np.testing.assert_allclose(loss(*spoilt, where=WHERE), np.where(WHERE, loss(X, target), 0), rtol=1e-6)
    for gradient in jax.grad(lambda *a: loss(*a, where=WHERE).sum(), (0, 1))(*spoilt):
        assert jnp.isfinite(gradient).all() and (gradient[~WHERE] == 0).all() and (gradient[WHERE] != 0).any()


@pytest.mark.parametrize("probabilities", [False, True])
def test_nothing_behind_a_mask_enters_the_cross_entropy(probabilities):
    where = jnp.array([True, False, True, False])
    targets = jax.nn.softmax(Y).at[1].set(jnp.nan) if probabilities else jnp.array([0, -1, 2, 255])
    logits = X.at[1].set(jnp.nan).at[3].set(jnp.inf)
    loss = functools.partial(classification.softmax_cross_entropy, label_smoothing=0.1, where=where)
    value, gradient = jax.value_and_grad(lambda x: loss(x, targets).sum())(logits)
    rows = np.array([0, 2])
    expected = classification.softmax_cross_entropy(X[rows], targets[rows], label_smoothing=0.1)
    np.testing.assert_allclose(value, expected.sum(), rtol=1e-6)
    assert (gradient[~where] == 0).all() and jnp.isfinite(gradient).all()


def test_the_gradient_at_a_kink_is_zero():
    zero = jnp.zeros(SHAPE)
    for loss in (regression.absolute_error, regression.huber, lambda a, b: regression.laplace_nll(a, b, 0.7)):
        for argument in (0, 1):
            assert not jax.grad(lambda a, b: loss(a, b).sum(), argument)(zero, zero).any()  # noqa: B023
            signs = jax.grad(lambda a, b: loss(a, b).sum(), argument)(X, Y)  # noqa: B023
            np.testing.assert_array_equal(jnp.sign(signs), jnp.sign(X - Y) * (1 - 2 * argument))
    assert not jax.grad(lambda w: penalty.l1({"kernel": w}))(zero).any()
    assert not jax.grad(lambda h: penalty.activity_l1(h).sum())(zero).any()
    np.testing.assert_array_equal(jax.grad(lambda w: penalty.l1({"kernel": w}))(X), jnp.sign(X))


def test_zero_weights_stay_zero_under_l1():
    weight = jnp.array([0.0, 1.0, -1.0])
    for _ in range(3):
        weight -= 0.1 * jax.grad(lambda w: penalty.l1({"kernel": w}))(weight)
    np.testing.assert_allclose(weight, [0, 0.7, -0.7], rtol=1e-6)


def reference(name, a, b):
    """In float64, from SciPy."""
    e = a - b
    return {
        "squared_error": lambda: e**2,
        "absolute_error": lambda: np.abs(e),
        "huber": lambda: scipy.special.huber(1.0, e),
        "sigmoid_cross_entropy": lambda: np.logaddexp(0, a) - b * a,
        "gaussian_nll": lambda: -scipy.stats.norm.logpdf(b, a, 0.5),
        "laplace_nll": lambda: -scipy.stats.laplace.logpdf(b, a, 0.5),
    }[name]()


@pytest.mark.parametrize("name", [*PLAIN, *SCALED])
@pytest.mark.parametrize("dtypes", ["float16 float16", "bfloat16 float32", "float32 uint8", "uint8 uint8", "int8 bool"])
def test_narrow_dtypes_lose_nothing(name, dtypes):
    first, second = dtypes.split()
    rng = np.random.default_rng(0)
    unit = name == "sigmoid_cross_entropy"
    a = jnp.asarray(rng.integers(0, 100, SHAPE) * (1 if "int8" in first else 4)).astype(first)
    b = jnp.asarray(rng.integers(0, 2 if unit or second == "bool" else 100, SHAPE)).astype(second)
    loss = (
        functools.partial(SCALED[name], **{"std" if name == "gaussian_nll" else "scale": 0.5})
        if name in SCALED
        else PLAIN[name]
    )
    if not jnp.issubdtype(a.dtype, jnp.floating) and unit:
        a = a.astype(jnp.float16)
    found = loss(a, b) if second != "bool" or unit else loss(a, b.astype(jnp.uint8))
    expected = reference(name, np.asarray(a, np.float64), np.asarray(b, np.float64))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_penalties_of_half_precision_add_up_wide():
    weights = {"kernel": jnp.full((5000,), 300.0, jnp.float16)}
    np.testing.assert_allclose(penalty.l2(weights), 0.5 * 5000 * 300.0**2, rtol=1e-6)
    np.testing.assert_allclose(penalty.l1(weights), 5000 * 300.0, rtol=1e-6)
    np.testing.assert_allclose(penalty.activity_l1(weights["kernel"][None]), [5000 * 300.0], rtol=1e-6)


@pytest.mark.slow
def test_settings_can_be_traced_and_differentiated():
    labels = jnp.array([0, 2, 1, 1])
    smooth = lambda e: classification.softmax_cross_entropy(X, labels, label_smoothing=e).sum()  # noqa: E731
    for setting, value in {
        "smoothing": (smooth, 0.1),
        "no smoothing": (smooth, 0.0),
        "delta": (lambda d: regression.huber(X, Y, d).sum(), 0.4),
        "std": (lambda s: regression.gaussian_nll(X, Y, s).sum(), 0.7),
        "scale": (lambda s: regression.laplace_nll(X, Y, s).sum(), 0.7),
    }.values():
        np.testing.assert_allclose(jax.jit(setting)(value), setting(value), rtol=1e-6)
        slope = (setting(value + 1e-2) - setting(value - (1e-2 if value else 0))) / (2e-2 if value else 1e-2)
        np.testing.assert_allclose(jax.jit(jax.grad(setting))(value), slope, rtol=5e-3)
        np.testing.assert_allclose(
            jax.vmap(setting)(jnp.array([value, 0.5])), [setting(value), setting(0.5)], rtol=1e-6
        )


def test_settings_out_of_range_are_refused_outside_jit():
    for bad in (0.0, -1.0):
        with pytest.raises(ValueError, match=r"delta must lie in \(0, ∞\]"):
            regression.huber(X, Y, bad)
        with pytest.raises(ValueError, match="std must be positive"):
            regression.gaussian_nll(X, Y, bad)
        with pytest.raises(ValueError, match="scale must be positive"):
            regression.laplace_nll(X, Y, jnp.ones(SHAPE).at[1, 1].set(bad))
    for bad in (-0.1, 255.0):
        with pytest.raises(ValueError, match=r"targets must lie in \[0, 1\]"):
            classification.sigmoid_cross_entropy(X, jnp.full(SHAPE, bad))
