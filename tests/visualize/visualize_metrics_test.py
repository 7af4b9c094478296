"""Measures of maps against brute loops, SciPy's rank correlation, and linear networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dlcore.nn import Activation, Dense, Flatten, serial
from dlcore.visualize import _metrics as metrics
from dlcore.visualize import probability, saliency

NET = serial(Flatten(), Dense(5), Activation("silu"), Dense(3))
X = jax.random.normal(jax.random.key(0), (2, 3, 4, 2))
LABELS = jnp.array([2, 0])
PARAMS, STATE = NET.init(jax.random.key(1), X)
MAPS = jnp.round(3 * jax.random.normal(jax.random.key(2), (2, 3, 4)))
LINEAR = serial(Flatten(), Dense(3))


def test_deletion_and_insertion_are_loops_over_pixels():
    options = {"steps": 5, "fill": 0.2, "block": 3, "score": probability}
    found = [
        np.asarray(curve(NET, PARAMS, STATE, X, LABELS, MAPS, **options))
        for curve in (metrics.deletion, metrics.insertion)
    ]
    for row in range(2):
        image, order = np.asarray(X[row]), np.argsort(-np.asarray(MAPS[row]).ravel(), kind="stable")
        for step in range(6):
            gone = np.zeros(12, bool)
            gone[order[: round(step / 5 * 12)]] = True
            gone = gone.reshape(3, 4, 1)
            for curve, changed in ((found[0], np.where(gone, 0.2, image)), (found[1], np.where(gone, image, 0.2))):
                logits = np.asarray(NET.apply(PARAMS, STATE, jnp.float32(changed)[None])[0][0], np.float64)
                expected = np.exp(logits[LABELS[row]]) / np.exp(logits).sum()
                np.testing.assert_allclose(curve[row, step], expected, rtol=1e-5)


def test_area_is_that_of_trapezoids():
    curve = np.array([[1.0, 0.6, 0.2, 0.1]])
    np.testing.assert_allclose(metrics.area(jnp.asarray(curve)), np.trapezoid(curve, dx=1 / 3), rtol=1e-6)


@pytest.mark.slow
def test_infidelity_is_the_loop_over_draws_and_0_for_what_is_linear():
    key, maps = jax.random.key(5), jax.random.normal(jax.random.key(6), X.shape)
    found = metrics.infidelity(NET, PARAMS, STATE, X, LABELS, maps, key=key, std=0.3, samples=7, block=4)
    for row in range(2):
        total = 0.0
        for n in range(1, 8):
            noise = 0.3 * jax.random.normal(jax.random.fold_in(key, n), X.shape[1:])
            pair = NET.apply(PARAMS, STATE, jnp.stack([X[row], X[row] - noise]))[0][:, LABELS[row]]
            total += (float((noise * maps[row]).sum()) - float(pair[0] - pair[1])) ** 2
        np.testing.assert_allclose(found[row], total / 7, rtol=1e-4)
    params, state = LINEAR.init(jax.random.key(0), X)
    exact = params["dense_0"]["kernel"][:, LABELS].T.reshape(X.shape)
    zero = metrics.infidelity(LINEAR, params, state, X, LABELS, exact, key=key, std=0.3, samples=7)
    np.testing.assert_allclose(zero, 0, atol=1e-9)


def test_completeness_error_is_relative():
    params, state = LINEAR.init(jax.random.key(0), X)
    exact = params["dense_0"]["kernel"][:, LABELS].T.reshape(X.shape) * (X - 0.5)
    for factor in (1.0, 1.25):
        error = metrics.completeness_error(LINEAR, params, state, X, LABELS, factor * exact, baseline=0.5)
        np.testing.assert_allclose(error, factor - 1, atol=1e-4)


def test_rank_correlation_is_scipys_with_ties():
    a, b = np.asarray(MAPS), np.round(np.asarray(MAPS) / 3 + np.asarray(X[..., 0]))
    expected = [scipy.stats.spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(metrics.rank_correlation(jnp.asarray(a), jnp.asarray(b)), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="shapes must be equal"):
        metrics.rank_correlation(jnp.ones((2, 3)), jnp.ones((2, 4)))


def test_a_cascade_forgets_from_the_top():
    fresh = jax.tree.map(lambda leaf: leaf + 1, PARAMS)
    steps = list(metrics.cascade(PARAMS, fresh, ("dense_1/**", "dense_0/kernel")))
    changed = [[path for path in ("dense_0/kernel", "dense_0/bias", "dense_1/kernel", "dense_1/bias")
                if (_at(step, path) == _at(fresh, path)).all()] for step in steps]  # fmt: skip
    assert changed == [["dense_1/kernel", "dense_1/bias"], ["dense_0/kernel", "dense_1/kernel", "dense_1/bias"]]
    with pytest.raises(ValueError, match="fits no path"):
        list(metrics.cascade(PARAMS, fresh, ("dense_2/**",)))


def _at(tree, path):
    branch, leaf = path.split("/")
    return tree[branch][leaf]


def test_random_weights_lose_the_map():
    x = jax.random.normal(jax.random.key(3), (8, 12, 12, 1))
    model = serial(Flatten(), Dense(32), Activation("silu"), Dense(4))
    (params, state), (fresh, _) = (model.init(jax.random.key(seed), x) for seed in (1, 2))
    labels = jnp.arange(8) % 4
    attribute = lambda params: saliency(model, params, state, x, labels)  # noqa: E731
    found = metrics.randomization(attribute, params, fresh, ("dense_1/**", "dense_0/**"))
    assert found.shape == (2, 8)
    assert np.abs(found[-1]).mean() < 0.3 and abs(found[-1].mean()) < 0.1
    same = metrics.randomization(attribute, params, params, ("dense_1/**",))
    np.testing.assert_allclose(same, 1, rtol=1e-5)


def test_maps_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 2\), expected \(2, 3, 4\)"):
        metrics.deletion(NET, PARAMS, STATE, X, LABELS, X)
    with pytest.raises(ValueError, match="shapes must be equal"):
        metrics.completeness_error(NET, PARAMS, STATE, X, LABELS, MAPS)
