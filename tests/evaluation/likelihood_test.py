"""The ruler: constants written out by hand, and the baselines on data whose code length is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.evaluation import Nats, baselines, bits_per_dim, histogram_bits, joint_nats, png_bits, summary, xz_bits


def test_a_uniform_model_needs_the_bits_of_its_levels():
    assert bits_per_dim(28 * 28 * math.log(256), 784) == pytest.approx(8)


def test_summary_over_batches_is_the_mean_and_standard_error_of_all_images():
    nats = np.random.default_rng(0).normal(230, 60, 70).astype(np.float32)
    batches = [Nats.of(jnp.asarray(nats[i : i + 30]), jnp.ones(len(nats[i : i + 30]), bool)) for i in (0, 30, 60)]
    padded = Nats.of(jnp.asarray([1e30]), jnp.zeros(1, bool))
    found = summary(jax.tree.map(lambda *x: sum(x), *batches, padded), 64)
    assert found["nll_nats"] == pytest.approx(nats.mean(), rel=1e-5)
    assert found["nll_nats_stderr"] == pytest.approx(nats.std(ddof=1) / math.sqrt(70), rel=1e-3)
    assert found["bits_per_dim"] == pytest.approx(nats.mean() / 64 / math.log(2), rel=1e-5)
    assert found["bits_per_dim_stderr"] == pytest.approx(found["nll_nats_stderr"] / 64 / math.log(2))


def test_histogram_of_constant_and_of_uniform_pixels():
    rng = np.random.default_rng(0)
    uniform = rng.integers(4, size=(20_000, 2, 2, 1)).astype(np.uint8)
    assert histogram_bits(uniform, uniform[:5000], 4) == pytest.approx(2, abs=1e-3)
    constant = np.full((1000, 2, 2, 1), 3, np.uint8)
    assert histogram_bits(constant, constant, 16) == pytest.approx(-math.log2(1001 / 1016))
    assert math.isfinite(histogram_bits(constant, constant - 1, 16))


def test_compressors_pay_at_least_the_entropy_and_little_for_nothing():
    rng = np.random.default_rng(0)
    noise = rng.integers(256, size=(40, 16, 16, 1)).astype(np.uint8)
    assert xz_bits(noise) >= 8 and png_bits(noise, 256) >= 8
    blank = np.zeros((200, 16, 16, 1), np.uint8)
    assert xz_bits(blank) < 0.1 and png_bits(blank, 256) < 4


def test_anchors_are_of_the_test_split():
    rng = np.random.default_rng(0)
    train, test = (rng.integers(16, size=(n, 8, 8, 1)).astype(np.uint8) for n in (2000, 300))
    found = baselines(train, test, 16)
    assert found["histogram_bits_per_dim"] == histogram_bits(train, test, 16)
    assert found["png_bits_per_dim"] == png_bits(test, 16) != png_bits(train, 16)
    assert found["xz_bits_per_dim"] == xz_bits(test) != xz_bits(train)


def test_the_joint_likelihood_pays_for_the_class():
    """For p(x|y) on three classes −log p(x, y) lies above −log p(x), minus the log of the mean."""
    p = np.random.default_rng(0).random((5, 3))
    nats = -np.log(p)
    np.testing.assert_allclose(joint_nats(jnp.asarray(nats), 3), -np.log(p / 3), rtol=1e-5)
    assert (np.asarray(joint_nats(jnp.asarray(nats), 3)) > -np.log(p.mean(1, keepdims=True))).all()
    assert joint_nats(2.0, 0) == joint_nats(2.0, 1) == 2.0
