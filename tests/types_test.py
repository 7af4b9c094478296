"""Means add up exactly over entries, batches and dtypes, whatever lies behind the mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.types import Mean


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("mask", ["bool", "uint8", "int8", "int32", None])
def test_sums_and_counts_for_every_dtype(dtype, mask):
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.integers(0, 2 if dtype == "bool" else 100, 5000)).astype(dtype)
    # 200 is True, and −56 as an int8.
    where = None if mask is None else jnp.asarray(rng.integers(0, 2, 5000) * 200).astype(mask)
    kept = np.asarray(values, np.float64)[... if mask is None else np.asarray(where) != 0]
    found = Mean.of(values, where)
    assert float(found.total) == kept.sum() and int(found.count) == kept.size
    np.testing.assert_allclose(found.value(), kept.mean(), rtol=1e-6)


def test_what_lies_behind_a_mask_never_enters():
    values = jnp.array([1.0, jnp.nan, jnp.inf, 4.0])
    where = jnp.array([True, False, False, True])
    assert float(Mean.of(values, where).value()) == 2.5
    gradient = jax.grad(lambda x: Mean.of(x * 2, where).value())(values)
    np.testing.assert_array_equal(gradient, [1, 0, 0, 1])
    assert np.isnan(Mean.of(values, jnp.zeros(4, bool)).value())


def test_ten_million_entries_and_a_thousand_batches():
    values = np.full(10**7, 0.1, np.float32)
    where = np.arange(10**7) % 3 > 0
    exact = float(np.float32(0.1))
    np.testing.assert_allclose(Mean.of(jnp.asarray(values)).value(), exact, rtol=1e-6)
    half = Mean.of(jnp.asarray(values, jnp.float16), jnp.asarray(where))
    np.testing.assert_allclose(half.value(), float(np.float16(0.1)), rtol=1e-6)
    assert int(half.count) == where.sum()
    one = Mean.of(jnp.asarray(np.random.default_rng(0).random(20011, np.float32)))
    total, _ = jax.lax.scan(
        lambda sums, _: (jax.tree.map(jnp.add, sums, one), None), Mean(jnp.zeros(()), jnp.int32(0)), None, length=1000
    )
    # Past 2²⁴ a float32 would not count on.
    assert int(total.count) == 20011 * 1000
    np.testing.assert_allclose(total.value(), one.value(), rtol=1000 * 2.0**-24)


def test_an_overflow_of_the_count_does_not_go_unnoticed():
    big = Mean(jnp.float32(1), jnp.int32(2**31 - 1))
    assert np.isnan(jax.tree.map(jnp.add, big, big).value())
    with np.errstate(all="raise"):
        assert np.isnan(Mean(np.float64(0), np.int64(0)).value())
