"""The sliding maximum and its gradient against every window looked at by itself (lecture 14.6)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import max_pool

CASES = [
    # space, window, stride, zeros around
    ((9,), (3,), (2,), ((1, 1),)),
    ((6, 7), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((6, 7), (2, 3), (2, 1), ((0, 1), (2, 0))),
    ((5, 4), (2, 2), (3, 2), ((0, 0), (0, 0))),
    ((7, 6), (5, 4), (1, 1), ((2, 2), (1, 2))),
    ((4, 5, 3), (2, 3, 2), (2, 2, 1), ((1, 0), (1, 1), (0, 1))),
]


def by_windows(x, dy, window, stride, widths):
    """Maxima, and the gradient that gives each slope to the first cell, in C order, that holds the maximum."""
    x, lows = np.asarray(x, np.float64), [low for low, _ in widths]
    padded = np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=-np.inf)
    counts = [(n - w) // s + 1 for n, w, s in zip(padded.shape[1:-1], window, stride, strict=True)]
    y, dx = np.zeros((len(x), *counts, x.shape[-1])), np.zeros(padded.shape)
    for b, c in itertools.product(range(len(x)), range(x.shape[-1])):
        for p in np.ndindex(*counts):
            cells = [tuple(i * s + t for i, s, t in zip(p, stride, tap, strict=True)) for tap in np.ndindex(*window)]
            winner = max(cells, key=lambda cell: padded[(b, *cell, c)])
            y[(b, *p, c)] = padded[(b, *winner, c)]
            if dy is not None:
                dx[(b, *winner, c)] += dy[(b, *p, c)]
    inner = tuple(slice(low, low + n) for low, n in zip(lows, x.shape[1:-1], strict=True))
    return y, dx[(slice(None), *inner)]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradient_are_those_of_the_windows(case, ties):
    space, *options = case
    rng = np.random.default_rng(0)
    shape = (2, *space, 2)
    x = rng.integers(-2, 1, shape) if ties else rng.normal(size=shape) - 3
    x = jnp.asarray(x, jnp.float32)
    window, stride, widths = options
    y, back = jax.vjp(lambda x: max_pool(x, window, stride=stride, padding=widths), x)
    dy = rng.normal(size=y.shape)
    value, dx = by_windows(x, dy, *options)
    np.testing.assert_array_equal(y, value)
    np.testing.assert_allclose(back(jnp.asarray(dy, jnp.float32))[0], dx, rtol=1e-6, atol=1e-6)


def test_the_derivative_along_a_direction_is_that_of_the_winners():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 3)), jnp.float32)
    along = jnp.asarray(np.random.default_rng(1).normal(size=x.shape), jnp.float32)
    pool = lambda x: max_pool(x, 3, stride=2, padding=1)  # noqa: E731
    y, slope = jax.jvp(pool, (x,), (along,))
    weights = jnp.asarray(np.random.default_rng(2).normal(size=y.shape), jnp.float32)
    gradient = jax.grad(lambda x: (pool(x) * weights).sum())(x)
    np.testing.assert_allclose((slope * weights).sum(), (gradient * along).sum(), rtol=1e-5)
    bent = jax.jvp(lambda x: jax.jvp(pool, (x,), (along,))[1], (x,), (along,))[1]
    np.testing.assert_array_equal(bent, 0)


def test_a_window_of_more_cells_than_a_byte_counts():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 300, 1)), jnp.float32).at[0, 250].set(9.0)
    gradient = jax.grad(lambda x: max_pool(x, 280, stride=5).sum())(x)
    np.testing.assert_array_equal(np.flatnonzero(gradient), [250])
    assert gradient[0, 250, 0] == 5


def test_what_is_no_number_stays_no_number():
    x = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2].set(jnp.nan)
    seen = jnp.isnan(max_pool(x, 2, stride=1))[0, :, :, 0]
    np.testing.assert_array_equal(seen, np.pad(np.ones((2, 2), bool), 1))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_integers_have_the_maximum_of_their_windows(dtype):
    draws = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (2, 6, 5, 2)).astype(dtype)
    found = max_pool(jnp.asarray(draws), 3, stride=2, padding=1)
    value, _ = by_windows(draws, None, (3, 3), (2, 2), ((1, 1), (1, 1)))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, value.astype(dtype))
