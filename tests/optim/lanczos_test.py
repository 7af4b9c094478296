"""Lanczos against dense eigenvalues, on matrices and on networks (lecture 5.7)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.data import load
from dlcore.losses import softmax_cross_entropy
from dlcore.networks import MLP
from dlcore.optim import eigen, extreme_eigenvalues, hessian, hvp, lanczos, norm, smooth, spectral_density

KEY = jax.random.key(0)


def symmetric(spectrum, seed=0):
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(spectrum),) * 2))[0]
    return jnp.asarray(Q * np.asarray(spectrum) @ Q.T, jnp.float32)


def test_full_length_finds_the_whole_spectrum_with_an_orthogonal_basis():
    # Without reorthogonalisation a far-off eigenvalue comes up again and again.
    spectrum = np.concatenate([np.linspace(-1, 1, 39), [100.0]])
    A = symmetric(spectrum)
    found = lanczos(lambda v: A @ v, jnp.zeros(40), steps=40, key=KEY)
    np.testing.assert_allclose(eigen(found)[0], spectrum, atol=2e-3)


def test_extremes_come_with_a_true_bound_long_before_the_end():
    spectrum = np.concatenate([[-5.0], np.random.default_rng(0).normal(size=198) * 0.3, [20.0]])
    A = symmetric(spectrum)
    found = extreme_eigenvalues(lambda v: A @ v, jnp.zeros(200), key=KEY)
    assert found.steps < 60
    assert abs(found.smallest + 5) <= found.error + 1e-4 and abs(found.largest - 20) <= found.error + 1e-4
    assert found.smallest == pytest.approx(-5, rel=1e-3) and found.largest == pytest.approx(20, rel=1e-3)


def test_an_invariant_space_ends_early():
    found = lanczos(
        lambda v: jax.tree.map(lambda leaf: 3 * leaf, v), {"a": jnp.zeros(5), "b": jnp.zeros((2, 2))}, steps=9, key=KEY
    )
    assert len(found.diagonal) == 1 and found.rest == 0 and found.diagonal[0] == pytest.approx(3, rel=1e-6)
    one = extreme_eigenvalues(lambda v: -2 * v, jnp.zeros(1), key=KEY)
    assert one.smallest == one.largest == pytest.approx(-2) and one.error == 0


def network(widths, examples=64):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(examples, widths[0])), jnp.float32)
    y = jnp.asarray(rng.integers(0, widths[-1], examples))
    pairs = list(itertools.pairwise(widths))
    params = [jnp.asarray(rng.normal(size=p) * np.sqrt(2 / p[0]), jnp.float32) for p in pairs]

    def loss(params):
        h = x
        for kernel in params[:-1]:
            h = jnp.tanh(h @ kernel)
        return -jnp.mean(jax.nn.log_softmax(h @ params[-1])[jnp.arange(examples), y])

    return loss, params


@pytest.mark.slow
def test_extremes_of_a_small_network_are_the_dense_ones():
    loss, params = network((6, 10, 3))
    dense = np.linalg.eigvalsh(hessian(loss, params))
    found = extreme_eigenvalues(lambda v, params: hvp(loss, params, v), params, params, key=KEY)
    assert found.largest == pytest.approx(dense[-1], rel=1e-3)
    assert found.smallest == pytest.approx(dense[0], rel=1e-3)
    assert found.steps < len(dense)


@pytest.mark.slow
def test_a_network_of_a_hundred_thousand_parameters():
    """A perceptron for digits after some training: two starts of Lanczos and power iteration agree."""
    rows = load("digits").train.read(np.arange(256))
    x, y = jnp.asarray(rows["image"], jnp.float32) / 16, jnp.asarray(rows["label"])
    model, tx = MLP((520, 128), 10, activation="tanh"), optax.sgd(0.1, 0.9)
    params = model.init(KEY, x)[0]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) >= 100_000

    def loss(params):
        return softmax_cross_entropy(model.apply(params, {}, x)[0], y).mean()

    def product(v, params):
        return hvp(loss, params, v)

    gradient, memory = jax.jit(jax.grad(loss)), tx.init(params)
    for _ in range(30):
        updates, memory = tx.update(gradient(params), memory)
        params = optax.apply_updates(params, updates)
    found, again = (
        extreme_eigenvalues(product, params, params, key=jax.random.key(i), tolerance=1e-3) for i in range(2)
    )
    assert found.largest == pytest.approx(again.largest, rel=1e-3)
    assert found.smallest == pytest.approx(again.smallest, rel=1e-2)
    assert found.smallest < 0 < found.largest and found.error <= 1e-3 * found.largest and found.steps < 200
    # Power iteration, the largest by magnitude, as a second way.
    v, power = jax.tree.map(jnp.ones_like, params), jax.jit(product)
    for _ in range(300):
        v = power(v, params)
        size = float(norm(v))
        v = jax.tree.map(lambda leaf, size=size: leaf / size, v)
    assert size == pytest.approx(max(found.largest, -found.smallest), rel=1e-2)


def test_quadrature_has_the_moments_of_the_spectrum():
    spectrum = np.concatenate([np.random.default_rng(0).normal(size=95), np.full(5, 10.0)])
    A = symmetric(spectrum)
    density = spectral_density(lambda v: A @ v, jnp.zeros(100), key=KEY, steps=12, probes=8)
    np.testing.assert_allclose(density.weights.sum(1), 1, rtol=1e-5)
    for power in (1, 2):
        found = (density.weights * density.nodes**power).sum(1)
        # Of vᵀAᵏv over unit v, with the dimension's 100.
        error = np.std(found) / np.sqrt(8) + np.sqrt(2 * np.mean(spectrum ** (2 * power)) / 100 / 8)
        assert abs(found.mean() - np.mean(spectrum**power)) < 5 * error
    at = np.linspace(-6, 14, 2001)
    curve = smooth(density, at, 0.3)
    assert np.trapezoid(curve, at) == pytest.approx(1, abs=1e-2)
    assert np.trapezoid(curve[at > 8], at[at > 8]) == pytest.approx(0.05, abs=0.05)


def test_bad_input():
    with pytest.raises(ValueError, match="steps"):
        lanczos(lambda v: v, jnp.zeros(3), steps=0, key=KEY)
    with pytest.raises(ValueError, match="not finite at step 0"):
        lanczos(lambda v: v * jnp.nan, jnp.zeros(3), steps=2, key=KEY)
