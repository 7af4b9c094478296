"""Least squares against numpy, rank-deficient systems included (lecture 4.3.1)."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlcore.optim import solve_qr, solve_ridge, solve_svd

SHAPES = ((7, 3), (3, 3), (3, 5))


def system(seed, shape, rank=None):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=shape)
    if rank is not None:
        A = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
    return A.astype(np.float32), rng.normal(size=shape[0]).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(SHAPES), st.sampled_from([None, 1, 2]))
def test_pseudo_inverse_is_numpys_at_every_rank(seed, shape, rank):
    A, b = system(seed, shape, rank)
    if np.linalg.cond(A.astype(float)) > 1e3 and rank is None:
        return
    expected = np.linalg.lstsq(A.astype(float), b, rcond=1e-5)[0]
    np.testing.assert_allclose(solve_svd(jnp.asarray(A), jnp.asarray(b)), expected, rtol=1e-2, atol=1e-2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-2, 10.0))
def test_qr_and_ridge_solve_the_normal_equations(seed, alpha):
    A, b = system(seed, (7, 3))
    double = A.astype(float)
    x = np.asarray(solve_qr(jnp.asarray(A), jnp.asarray(b)))
    np.testing.assert_allclose(double.T @ (double @ x - b), 0, atol=1e-3)
    expected = np.linalg.solve(double.T @ double + alpha * np.eye(3), double.T @ b)
    np.testing.assert_allclose(solve_ridge(jnp.asarray(A), jnp.asarray(b), alpha), expected, rtol=1e-3, atol=1e-4)


def test_what_qr_cannot_solve_is_said():
    A, b = system(0, (7, 3), rank=2)
    with pytest.raises(ValueError, match=r"singular.*use solve_svd"):
        solve_qr(jnp.asarray(A), jnp.asarray(b))
    with pytest.raises(ValueError, match="singular"):
        solve_qr(jnp.zeros((3, 2)), jnp.ones(3))
    with pytest.raises(ValueError, match="3 equations for 5 unknowns"):
        solve_qr(*map(jnp.asarray, system(0, (3, 5))))
    with pytest.raises(ValueError, match="alpha"):
        solve_ridge(jnp.asarray(A), jnp.asarray(b), 0.0)
    np.testing.assert_array_equal(solve_svd(jnp.zeros((3, 2)), jnp.ones(3)), 0)
    for solve in (solve_qr, solve_svd, partial(solve_ridge, alpha=1.0)):
        with pytest.raises(ValueError, match="matrix must be finite"):
            solve(jnp.full((3, 2), jnp.nan), jnp.ones(3))
        with pytest.raises(ValueError, match="target must be finite"):
            solve(jnp.eye(3, 2), jnp.full(3, jnp.inf))


def test_ridge_has_a_solution_where_columns_depend_and_shrinks_to_the_smallest():
    A, b = system(0, (7, 3), rank=2)
    smallest = np.linalg.lstsq(A.astype(float), b, rcond=1e-5)[0]
    ridge = [np.asarray(solve_ridge(jnp.asarray(A), jnp.asarray(b), alpha)) for alpha in (1e-3, 1.0, 100.0)]
    np.testing.assert_allclose(ridge[0], smallest, atol=5e-3)
    norms = [np.linalg.norm(x) for x in ridge]
    assert norms == sorted(norms, reverse=True)
