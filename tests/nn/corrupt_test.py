"""Corruptions of inputs against counts and moments (lecture 21.3)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import KeepLargest, by_row, corruption, keep_largest, mask, salt_and_pepper

KEY = jax.random.key(0)
X = jnp.full((200, 50), 0.25)


def test_masking_sets_to_zero_at_its_rate_and_leaves_the_rest():
    out = np.asarray(mask(KEY, X, 0.3))
    assert set(np.unique(out)) == {0.0, 0.25}
    assert abs((out == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / X.size)
    np.testing.assert_array_equal(mask(KEY, X, 1.0), 0 * X)
    np.testing.assert_array_equal(mask(KEY, X, 0.0), X)


def test_salt_and_pepper_makes_as_many_white_as_black():
    out = np.asarray(salt_and_pepper(KEY, X, 0.4, low=-1.0, high=2.0))
    assert set(np.unique(out)) == {-1.0, 0.25, 2.0}
    for value in (-1.0, 2.0):
        assert abs((out == value).mean() - 0.2) < 5 * np.sqrt(0.2 * 0.8 / X.size)
    # A coin per element: which are hit says nothing of their colour.
    assert abs(np.corrcoef((out != 0.25).ravel()[:-1], (out == 2).ravel()[1:])[0, 1]) < 0.05


def test_gaussian_noise_has_its_deviation_and_is_not_clipped():
    noise = np.asarray(corruption("gaussian", 0.5)(KEY, X) - X)
    assert abs(noise.mean()) < 5 * 0.5 / np.sqrt(X.size)
    assert noise.std() == pytest.approx(0.5, rel=0.03) and noise.min() < -1


@pytest.mark.slow
def test_held_out_noise_belongs_to_the_row_and_not_to_the_batch():
    keys = jax.random.split(KEY, 6)
    for name, level in (("gaussian", 0.5), ("masking", 0.5), ("salt_and_pepper", 0.5)):
        whole = by_row(corruption(name, level), keys, X[:6])
        np.testing.assert_array_equal(whole[2:4], by_row(corruption(name, level), keys[2:4], X[2:4]))
        assert (whole[0] != whole[1]).any()


def test_corruptions_that_cannot_be_are_refused():
    for name, level, message in (
        ("maskin", 0.5, "did you mean 'masking'"),
        ("masking", 1.5, r"rate must lie in \[0, 1\], got 1.5"),
        ("salt_and_pepper", -0.1, r"rate must lie in \[0, 1\]"),
        ("gaussian", -1.0, r"σ must lie in \[0, ∞\), got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            corruption(name, level)


def test_the_largest_by_value_are_kept_and_have_the_gradient():
    h = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    for k in (1, 4, 9):
        order = np.argsort(-h, axis=1, kind="stable")[:, :k]
        kept = np.zeros(h.shape, bool)
        np.put_along_axis(kept, order, True, axis=1)
        np.testing.assert_array_equal(keep_largest(jnp.asarray(h), k), np.where(kept, h, 0))
        np.testing.assert_array_equal(jax.grad(lambda h: keep_largest(h, k).sum())(jnp.asarray(h)), kept)  # noqa: B023
    np.testing.assert_array_equal(KeepLargest(2).apply({}, {}, jnp.ones((1, 4)))[0], [[1, 1, 0, 0]])
    with pytest.raises(ValueError, match="k=10 of 9 units"):
        keep_largest(jnp.asarray(h), 10)
