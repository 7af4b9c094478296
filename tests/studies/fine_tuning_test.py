"""Short trainings from several starts against a loop over them (lecture 21.4)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.studies import compare_starts, fine_tune, gains

X = np.random.default_rng(0).normal(size=(2, 12, 3)).astype(np.float32)
W = np.array([1.0, -2.0, 0.5], np.float32)
Y = X @ W
EXAMPLES = jnp.asarray(X), jnp.asarray(Y)
FIRST = jnp.asarray(X[0]), jnp.asarray(Y[0])
ZEROS = {"w": jnp.zeros(3)}
SGD = optax.sgd(0.1)
OPTIONS = {"steps": 6, "every": 2, "batch_size": 4}


def loss(params, x, y):
    return jnp.square(x @ params["w"] - y).mean()


def by_hand(w, x, y, key, error):
    """Plain gradient descent, step by step: what was best, and what was seen."""
    keys, best, seen = jax.random.split(key, (3, 2)), w, [float(error({"w": w}))]
    for part in keys:
        for one in part:
            rows = np.asarray(jax.random.randint(one, (4,), 0, len(x)))
            w = w - 0.1 * 2 / 4 * x[rows].T @ (x[rows] @ w - y[rows])
        seen.append(float(error({"w": w})))
        best = w if seen[-1] < min(seen[:-1]) else best
    return best, seen


def test_what_is_kept_was_best_on_validation():
    key, start = jax.random.key(3), np.zeros(3, np.float32)
    # Least on the way: the distance to a point that the path passes.
    passed = lambda params: jnp.abs(params["w"] - 0.35 * W).sum()  # noqa: E731
    found = fine_tune(loss, passed, ZEROS, *FIRST, SGD, key=key, **OPTIONS)
    best, seen = by_hand(start, X[0], Y[0], key, passed)
    assert 0 < int(np.argmin(seen)) < 3
    np.testing.assert_allclose(found.params["w"], best, rtol=1e-4)
    np.testing.assert_allclose(found.errors, seen, rtol=1e-4)
    last = fine_tune(loss, None, ZEROS, *FIRST, SGD, key=key, **OPTIONS)
    falling = iter(range(9, 0, -1))
    expected, _ = by_hand(start, X[0], Y[0], key, lambda params: next(falling))
    np.testing.assert_allclose(last.params["w"], expected, rtol=1e-4)
    with pytest.raises(ValueError, match="every must be positive and divide steps, got 4 and 6"):
        fine_tune(loss, None, ZEROS, *FIRST, SGD, key=key, **{**OPTIONS, "every": 4})


def test_all_at_once_is_one_after_the_other():
    starts = lambda key: {"zeros": ZEROS, "random": {"w": jax.random.normal(key, (3,))}}  # noqa: E731
    error = lambda params, split: jnp.abs(split[0] @ params["w"] - split[1]).mean()  # noqa: E731
    validation, test = (X[0], Y[0] + 0.1), (X[1], Y[1])
    key = jax.random.key(1)
    found = compare_starts(starts, loss, error, validation, test, *EXAMPLES, SGD, key=key, **OPTIONS)
    for seed, own in enumerate(jax.random.split(key, 2)):
        for name, start in starts(jax.random.fold_in(own, 0)).items():
            chosen = lambda params: error(params, validation)  # noqa: E731
            best, seen = by_hand(np.asarray(start["w"]), X[seed], Y[seed], jax.random.fold_in(own, 1), chosen)
            np.testing.assert_allclose(found[name]["validation"][seed], seen, rtol=1e-4)
            assert float(found[name]["error"][seed]) == pytest.approx(float(error({"w": best}, test)), rel=1e-4)


def test_gains_are_relative_to_the_baseline_in_whatever_order():
    cells = {"labels_100": {"random": {"error": np.array([0.3, 0.5])}, "pretrained": {"error": np.array([0.2, 0.2])}}}
    assert gains(jax.tree.map(np.asarray, cells), "random", "pretrained") == {
        "error_random_100": 0.4,
        "error_random_100_std": pytest.approx(0.1 * np.sqrt(2)),
        "error_pretrained_100": 0.2,
        "error_pretrained_100_std": 0.0,
        "relative_gain_100": 0.5,
    }
