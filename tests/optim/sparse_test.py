"""Exact zeros: proximal steps against scikit-learn, pruning against sorting by hand (lecture 10.13–10.14)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from sklearn.linear_model import Lasso

from dlcore.optim import apply_masks, group_threshold, keep_pruned, magnitude_masks, proximal, soft_threshold, sparsity

WEIGHT = lambda path: path.endswith("kernel")  # noqa: E731


def mask(params):
    return {name: name == "kernel" for name in params}


@pytest.mark.slow
@pytest.mark.parametrize("prox", [soft_threshold, group_threshold])
def test_operators_solve_their_problem(prox):
    v, strength = np.random.default_rng(0).standard_normal((3, 4)), 0.4
    v[:, 0] *= 0.1

    def objective(w):
        w = w.reshape(v.shape)
        groups = np.sqrt(3) * np.linalg.norm(w, axis=0).sum()
        penalty = np.abs(w).sum() if prox is soft_threshold else groups
        return 0.5 * np.square(w - v).sum() + strength * penalty

    found = np.asarray(prox(jnp.asarray(v), strength), np.float64)
    best = scipy.optimize.minimize(objective, found.ravel(), method="Powell", options={"xtol": 1e-10, "ftol": 1e-14})
    assert objective(found.ravel()) <= best.fun + 1e-6
    assert (found[:, 0] == 0).all() and (found != 0).any()
    assert np.isfinite(jax.jacobian(lambda v: prox(v, strength))(jnp.zeros((2, 2)))).all()


def test_ista_is_the_lasso_of_scikit_learn_with_exact_zeros():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 12))
    y = x[:, :3] @ [2.0, -1.5, 0.7] + 0.3 * rng.standard_normal(40) + 1.0
    alpha = 0.2
    reference = Lasso(alpha=alpha, tol=1e-12, max_iter=100_000).fit(x, y)
    with jax.enable_x64(True):
        x, y = jnp.asarray(x), jnp.asarray(y)
        params = {"kernel": jnp.zeros(12), "bias": jnp.zeros(())}
        rate = 0.3
        tx = proximal(optax.sgd(rate), rate, alpha, mask)
        gradient = jax.grad(lambda p: 0.5 * jnp.square(x @ p["kernel"] + p["bias"] - y).mean())

        def step(_, carry):
            updates, state = tx.update(gradient(carry[0]), carry[1], carry[0])
            return optax.apply_updates(carry[0], updates), state

        params, _ = jax.lax.fori_loop(0, 3000, step, (params, tx.init(params)))
        np.testing.assert_allclose(params["kernel"], reference.coef_, atol=1e-9)
        np.testing.assert_allclose(params["bias"], reference.intercept_, atol=1e-9)
        np.testing.assert_array_equal(params["kernel"] == 0, reference.coef_ == 0)
        assert 0 < (reference.coef_ == 0).sum() < 12


def test_the_strength_follows_the_schedule_and_spares_other_leaves():
    params = {"kernel": jnp.asarray([1.0, -1.0]), "bias": jnp.asarray([1.0])}
    tx = proximal(optax.identity(), lambda step: 0.1 * (step + 1.0), 2.0, mask)
    state, zero = tx.init(params), jax.tree.map(jnp.zeros_like, params)
    for expected in (0.8, 0.4, 0.0):
        updates, state = tx.update(zero, state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params["kernel"], [expected, -expected], atol=1e-6)
        np.testing.assert_array_equal(params["bias"], [1.0])
    with pytest.raises(ValueError, match="alpha"):
        proximal(optax.identity(), 0.1, -1.0, mask)
    with pytest.raises(ValueError, match="pass params"):
        tx.update(zero, state)


PARAMS = {
    "a": {"kernel": jnp.asarray([[0.1, -5.0], [2.0, 0.3]]), "bias": jnp.asarray([0.0, 1e-3])},
    "b": {"kernel": jnp.asarray([[4.0, 0.2, -0.05, 3.0]])},
}


def test_masks_by_sorting_by_hand():
    masks = magnitude_masks(PARAMS, 0.5, WEIGHT)
    np.testing.assert_array_equal(masks["a"]["kernel"], [[False, True], [True, False]])
    np.testing.assert_array_equal(masks["b"]["kernel"], [[True, False, False, True]])
    assert masks["a"]["bias"].all()
    masks = magnitude_masks(PARAMS, 0.75, WEIGHT, globally=False)
    np.testing.assert_array_equal(masks["a"]["kernel"], [[False, True], [False, False]])
    np.testing.assert_array_equal(masks["b"]["kernel"], [[True, False, False, False]])
    found = sparsity(apply_masks(PARAMS, masks))
    assert found["a/kernel"] == (3, 4) and found["b/kernel"].fraction == 0.75
    assert found["a/bias"] == (1, 2) and found[""] == (7, 10)


@pytest.mark.parametrize(("share", "dropped"), [(0.29, 3), (0.31, 3), (0.26, 3), (0.24, 2), (0.9, 9)])
def test_the_share_is_rounded_to_whole_weights(share, dropped):
    for globally in (True, False):
        masks = magnitude_masks({"kernel": jnp.arange(10.0) + 1}, share, WEIGHT, globally=globally)
        np.testing.assert_array_equal(masks["kernel"], np.arange(10) >= dropped)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_or_everything(share):
    masks = magnitude_masks(PARAMS, share, WEIGHT)
    assert all(bool(m.all()) == (share == 0) for m in (masks["a"]["kernel"], masks["b"]["kernel"]))


def test_ties_are_broken_by_order():
    masks = magnitude_masks({"kernel": jnp.ones(5)}, 0.4, WEIGHT)
    np.testing.assert_array_equal(masks["kernel"], [True, True, True, False, False])


def test_pruned_weights_stay_zero_in_training():
    masks = magnitude_masks(PARAMS, 0.5, WEIGHT)
    params = apply_masks(PARAMS, masks)
    tx = keep_pruned(optax.adamw(0.1, weight_decay=0.1), masks)
    state, gradient = tx.init(params), jax.tree.map(jnp.ones_like, params)
    for _ in range(3):
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    for w, keep, start in zip(*map(jax.tree.leaves, (params, masks, PARAMS)), strict=True):
        assert (w[~keep] == 0).all() and (w[keep] != start[keep]).all()


def test_bad_input():
    with pytest.raises(ValueError, match="sparsity must lie"):
        magnitude_masks(PARAMS, 1.5, WEIGHT)
    with pytest.raises(ValueError, match="no leaf is chosen"):
        magnitude_masks(PARAMS, 0.5, lambda path: False)
