"""Cross-validation against plain loops (lecture 1.7–1.8)."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from dlcore.evaluation import choose, cross_validate, folds, split_rows
from dlcore.types import Mean

SIZES = st.integers(2, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, n)))


@given(SIZES, st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_folds_are_disjoint_cover_all_and_are_even(size_and_k, seed):
    size, k = size_and_k
    parts = folds(size, k, seed=seed)
    assert len(parts) == k and sorted(np.concatenate(parts)) == list(range(size))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all((a == b).all() for a, b in zip(parts, folds(size, k, seed=seed), strict=True))


def test_the_seed_shuffles():
    assert any((a != b).any() for a, b in zip(folds(40, 4, seed=0), folds(40, 4, seed=1), strict=True))


def test_split_rows():
    parts = split_rows(103, (0.7, 0.2, 0.1), seed=3)
    assert sorted(np.concatenate(parts)) == list(range(103))
    assert [len(part) for part in parts] == [72, 21, 10]
    assert all((a == b).all() for a, b in zip(parts, split_rows(103, (0.7, 0.2, 0.1), seed=3), strict=True))


def ridge_data(rows=23, width=3):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, width)).astype(np.float32)
    y = x @ np.array([1.0, -2.0, 0.5]) + 0.5 * rng.standard_normal(rows)
    return {"x": x, "y": y.astype(np.float32)}


def ridge(batch, penalty, key):
    weight = batch["where"].astype(jnp.float32)
    x = batch["x"] * weight[:, None]
    return jnp.linalg.solve(x.T @ x + penalty * jnp.eye(x.shape[1]), x.T @ batch["y"])


def squared_error(coefficients, batch):
    return Mean.of(jnp.square(batch["x"] @ coefficients - batch["y"]), batch["where"])


PENALTIES = np.array([0.1, 3.0, 50.0, 1000.0], np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
def test_scores_are_those_of_scikit_learn(at_once):
    """23 rows in 4 folds: the padded row must count neither in the fit nor in the score."""
    data, k = ridge_data(), 4
    held = folds(23, k, seed=7)
    pairs = [(np.setdiff1d(np.arange(23), part), part) for part in held]
    grid = {"alpha": PENALTIES.tolist()}
    search = GridSearchCV(Ridge(fit_intercept=False), grid, scoring="neg_mean_squared_error", cv=pairs)
    search.fit(data["x"], data["y"])
    expected = -np.stack([search.cv_results_[f"split{i}_test_score"] for i in range(k)], -1)
    found = choose(ridge, squared_error, data, jnp.asarray(PENALTIES), k, seed=7, at_once=at_once)
    np.testing.assert_allclose(found.scores.each(), expected, rtol=1e-4)
    np.testing.assert_array_equal(found.scores.count, np.broadcast_to([len(part) for part in held], (4, 4)))
    sizes = np.array([len(part) for part in held])
    np.testing.assert_allclose(found.scores.mean(), expected @ sizes / 23, rtol=1e-4)
    np.testing.assert_allclose(found.scores.stderr(), expected.std(-1, ddof=1) / 2, rtol=1e-4)
    assert found.index == int(np.argmin(expected @ sizes)) and float(found.setting) == PENALTIES[found.index]


def mlp_fit(steps, width):
    def start(key, inputs):
        a, b = jax.random.split(key)
        return 0.5 * jax.random.normal(a, (inputs, width)), 0.5 * jax.random.normal(b, (width,))

    def fit(batch, key):
        def loss(params):
            prediction = jnp.tanh(batch["x"] @ params[0]) @ params[1]
            return jnp.mean(jnp.square(prediction - batch["y"]), where=batch["where"])

        def step(params, _):
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params)), None

        return jax.lax.scan(step, start(key, batch["x"].shape[1]), length=steps)[0]

    return start, fit


def mlp_score(params, batch):
    return Mean.of(jnp.square(jnp.tanh(batch["x"] @ params[0]) @ params[1] - batch["y"]), batch["where"])


def numpy_scores(data, k, seed, steps, start):
    """The same trainings one after another, gradients by hand."""
    scores = []
    for i, part in enumerate(folds(len(data["x"]), k, seed=seed)):
        kept = np.setdiff1d(np.arange(len(data["x"])), part)
        x, y = data["x"][kept], data["y"][kept]
        v, w = (np.array(a) for a in start[i])
        for _ in range(steps):
            h = np.tanh(x @ v)
            error = 2 * (h @ w - y) / len(y)
            v, w = v - 0.1 * (x.T @ (error[:, None] * w * (1 - h * h))), w - 0.1 * (h.T @ error)
        scores.append(np.mean((np.tanh(data["x"][part] @ v) @ w - data["y"][part]) ** 2))
    return np.array(scores)


def starts(start, k, seed, inputs):
    return [start(jax.random.fold_in(jax.random.key(seed), i), inputs) for i in range(k)]


def test_trainings_are_those_of_a_plain_loop():
    data, (start, fit) = ridge_data(), mlp_fit(30, 4)
    expected = numpy_scores(data, 4, 2, 30, starts(start, 4, 2, 3))
    found = cross_validate(fit, mlp_score, data, 4, seed=2)
    np.testing.assert_allclose(found.each(), expected, rtol=1e-4)


@pytest.mark.slow
def test_all_at_once_is_faster_than_a_loop():
    """5 folds of a network with 16 hidden units on 60 rows, 1,000 steps each, against NumPy one after another."""
    steps, rng = 1000, np.random.default_rng(0)
    x = rng.standard_normal((60, 4)).astype(np.float32)
    data = {"x": x, "y": np.sin(x.sum(1))}
    start, fit = mlp_fit(steps, 16)
    began = starts(start, 5, 0, 4)
    ratios = []
    cross_validate(fit, mlp_score, data, 5)
    for _ in range(3):
        t0 = time.perf_counter()
        found = np.asarray(cross_validate(fit, mlp_score, data, 5).each())
        t1 = time.perf_counter()
        expected = numpy_scores(data, 5, 0, steps, began)
        ratios.append((time.perf_counter() - t1) / (t1 - t0))
    np.testing.assert_allclose(found, expected, rtol=1e-2)
    print(f"a loop takes {np.median(ratios):.1f} times as long")
    assert max(ratios) > 5, ratios


def test_maximum_and_scores_that_are_not_finite():
    data = {"x": np.zeros(6, np.float32)}
    fit = lambda batch, setting, key: setting  # noqa: E731
    score = lambda value, batch: Mean.of(jnp.broadcast_to(value, batch["x"].shape), batch["where"])  # noqa: E731
    candidates = {"value": jnp.array([1.0, jnp.nan, 3.0, 2.0, jnp.inf])}
    found = choose(lambda b, s, key: s["value"], score, data, candidates, 3, mode="max")
    assert found.index == 2 and float(found.setting["value"]) == 3
    with pytest.raises(ValueError, match="finite"):
        choose(fit, score, data, jnp.array([jnp.nan]), 3)


def test_bad_input():
    for k in (1, 7):
        with pytest.raises(ValueError, match="k="):
            folds(6, k)
    with pytest.raises(ValueError, match="k=7"):
        cross_validate(print, print, {"x": np.zeros(6)}, 7)
    with pytest.raises(ValueError, match="common leading axis"):
        cross_validate(print, print, {"x": np.zeros(6), "y": np.zeros(5)}, 2)
    with pytest.raises(ValueError, match="mode"):
        choose(print, print, {"x": np.zeros(6)}, jnp.ones(1), 2, mode="best")
    for fractions in ((0.5, 0.6), (1.5, -0.5), ()):
        with pytest.raises(ValueError, match="fractions"):
            split_rows(10, fractions)
    with pytest.raises(ValueError, match="a row"):
        split_rows(3, (0.9, 0.1))
