"""Pools in narrow dtypes, over added cells, of integers, and into bins (lecture 14.6–14.7)."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.backprop import avg_pool_forward, max_pool_forward
from dlcore.nn import (
    AdaptiveMaxPool,
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    global_avg_pool,
    global_max_pool,
    max_pool,
)
from dlcore.nn._pool_ceil import max_pool_ceil

HALF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}


def brute(x, window, stride, widths, reduce):
    """Every window cut out by hand, added cells left out."""
    x = np.asarray(x, np.float64)
    rows = []
    for axis in (0, 1):
        n, (low, high) = x.shape[axis + 1], widths[axis]
        firsts = range(-low, n + high - window + 1, stride)
        rows.append([slice(max(i, 0), min(i + window, n)) for i in firsts])
    cells = [[reduce(x[:, i, j], axis=(1, 2)) for j in rows[1]] for i in rows[0]]
    return np.moveaxis(np.asarray(cells), 2, 0)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(
    ("window", "stride", "widths"),
    [(25, 1, [(0, 0)] * 2), (3, 1, [(1, 1)] * 2), (16, 16, [(0, 0)] * 2), (20, 7, [(3, 19), (0, 5)])],
    ids=str,
)
def test_means_of_half_precision_are_rounded_once(dtype, window, stride, widths):
    x = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 2)), dtype)
    found = avg_pool(x, window, stride=stride, padding=widths)
    assert found.dtype == dtype
    exact = brute(x, window, stride, widths, np.mean)
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=1.01 * HALF[dtype])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALF)
def test_large_sums_of_half_precision_do_not_overflow(dtype):
    x = jnp.full((1, 64, 64, 1), 60000, dtype)
    for pool in (
        lambda x: avg_pool(x, 33, stride=1),
        lambda x: avg_pool(x, 32),
        lambda x: adaptive_avg_pool(x, 3),
        global_avg_pool,
    ):
        y = jax.jit(pool)(x)
        assert y.dtype == dtype and (y == x[0, 0, 0, 0]).all()
        slope = jax.jit(jax.grad(lambda x: pool(x).astype(jnp.float32).sum()))(x)  # noqa: B023
        np.testing.assert_allclose(slope.astype(jnp.float32).sum(), y.size, rtol=0.01)


@pytest.mark.parametrize("dtype", HALF)
def test_bins_and_whole_images_in_half_precision_are_rounded_once(dtype):
    x = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (2, 50, 45, 2)), dtype)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(global_avg_pool(x).astype("float32"), exact.mean((1, 2)), rtol=1.01 * HALF[dtype])
    wide = adaptive_avg_pool(x.astype(jnp.float32), (3, 2))
    np.testing.assert_allclose(adaptive_avg_pool(x, (3, 2)).astype("float32"), wide, rtol=1.01 * HALF[dtype])


@pytest.mark.parametrize("pool", [max_pool, avg_pool, max_pool_forward, avg_pool_forward])
@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(2, 2, 2), (2, 1, 3), (1, 1, 1), (2, 1, [(0, 2), (0, 0)]), ((3, 2), 1, (2, 2))]
)
def test_windows_that_see_added_cells_alone_are_refused(pool, window, stride, padding):
    sizes = window if isinstance(window, tuple) else (window,) * 2
    with pytest.raises(ValueError, match=rf"padding .* window \({sizes[0]}, {sizes[1]}\)"):
        pool(jnp.zeros((1, 6, 6, 1)), window, stride=stride, padding=padding)


@pytest.mark.sampled
@pytest.mark.parametrize("size", [3, 4, 8])
@pytest.mark.parametrize(("window", "stride"), [(1, 3), (2, 3), (3, 2), (3, 1)])
def test_every_other_padding_gives_finite_pools(size, window, stride):
    x = -1 - np.random.default_rng(0).uniform(0, 1, (2, size, size + 1, 1)).astype(np.float32)
    for padding in ("zero", window - 1):
        for pool, reduce in ((max_pool, np.max), (avg_pool, np.mean)):
            found = jax.jit(functools.partial(pool, window=window, stride=stride, padding=padding))(x)
            assert np.isfinite(found).all() and (found <= -1).all()
            if padding != "zero":
                np.testing.assert_allclose(found, brute(x, window, stride, [(padding,) * 2] * 2, reduce), rtol=1e-6)
    assert np.isfinite(jax.jit(lambda x: max_pool_ceil(x, window, stride))(x)).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_pools_of_integers(dtype):
    high = {"uint8": 255, "int8": 127, "int32": 2**30, "bool": 1}[dtype]
    low = {"int8": -128, "int32": -(2**31)}.get(dtype, 0)
    draws = np.random.default_rng(0).integers(low, high, (2, 7, 6, 2), endpoint=True).astype(dtype)
    draws[0] = low
    x = jnp.asarray(draws)
    # Booleans are no numbers to the type checker.
    mean_of, mean_of_all = (f.__wrapped__ if dtype == "bool" else f for f in (avg_pool, global_avg_pool))
    for window, stride, padding in ((2, 2, 0), (3, 2, 1)):
        found = max_pool(x, window, stride=stride, padding=padding)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, brute(x, window, stride, [(padding,) * 2] * 2, np.max))
        mean = mean_of(x, window, stride=stride, padding=padding)
        assert mean.dtype == jnp.float32
        np.testing.assert_allclose(mean, brute(x, window, stride, [(padding,) * 2] * 2, np.mean), rtol=1e-5)
    assert global_max_pool(x).dtype == adaptive_max_pool(x, 2).dtype == dtype
    np.testing.assert_array_equal(global_max_pool(x), draws.max((1, 2)))
    np.testing.assert_allclose(mean_of_all(x), draws.astype(np.float64).mean((1, 2)), rtol=1e-5)


def test_a_gradient_passes_beside_a_pool_of_integers():
    def loss(x):
        return (x * max_pool((4 * x).astype(jnp.int32), 2).repeat(2, 1).repeat(2, 2)).sum()

    x = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (1, 4, 4, 1)), jnp.float32)
    highest = np.asarray(max_pool(jnp.floor(4 * x), 2)).repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(jax.grad(loss)(x), highest)


def bins(n, count):
    """PyTorch's rule."""
    return [slice(int(np.floor(i * n / count)), int(np.ceil((i + 1) * n / count))) for i in range(count)]


@pytest.mark.parametrize(("space", "size"), [((5, 7), (2, 3)), ((3, 4), (4, 5)), ((10, 5), (4, 1))])
def test_adaptive_maximum_is_the_maximum_of_every_bin(space, size):
    x = np.random.default_rng(0).normal(size=(2, *space, 3)).astype(np.float32)
    expected = np.zeros((2, *size, 3), np.float32)
    edges = [enumerate(bins(n, count)) for n, count in zip(space, size, strict=True)]
    for (i, rows), (j, columns) in itertools.product(*edges):
        expected[:, i, j] = x[:, rows, columns].max((1, 2))
    model = AdaptiveMaxPool(size)
    np.testing.assert_array_equal(jax.jit(model.apply)(*model.init(jax.random.key(0), x), jnp.asarray(x))[0], expected)


def test_adaptive_maximum_on_one_and_three_axes():
    x = jnp.arange(2 * 4 * 4 * 5.0).reshape(1, 8, 4, 5)
    np.testing.assert_array_equal(adaptive_max_pool(x[0], 2), x.reshape(8, 2, 2, 5).max(2))
    np.testing.assert_array_equal(adaptive_max_pool(x[..., None], (2, 2, 1))[..., 0, 0], max_pool(x, (4, 2)).max(-1))


def test_the_first_of_equals_has_the_gradient_of_an_adaptive_maximum():
    # Bins of rows and columns 0–2 and 2–4, which share the middle.
    x = jnp.asarray([[1.0, 3, 0, 0, 0], [3, 3, 0, 0, 0], [0, 0, 7, 0, 0], [0, 0, 0, 7, 0], [0, 0, 0, 0, 0]])
    weight = jnp.asarray([[1, 2], [4, 8.0]])
    slope = jax.jit(jax.grad(lambda x: (adaptive_max_pool(x[None, ..., None], 2)[0, ..., 0] * weight).sum()))
    np.testing.assert_array_equal(slope(x), np.zeros((5, 5)) + 15 * (np.arange(25) == 12).reshape(5, 5))
    expected = [[0, 1, 2, 0, 0], [0, 0, 0, 0, 0], [4, 0, 0, 0, 0], [0, 0, 0, 8, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(slope(x.at[2, 2].set(0)), expected)
