"""Losses against closed forms, optax and SciPy (lecture 3, 10, 11.6)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from dlcore.losses import (
    absolute_error,
    gaussian_nll,
    group_lasso,
    huber,
    l1,
    l2,
    laplace_nll,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_error,
    supervised,
)
from dlcore.nn import Dense

X, Y = jax.random.normal(jax.random.key(0), (2, 7, 5))
LOGITS, LABELS = 3 * X, jnp.array([0, 4, 1, 2, 2, 3, 0])


def close(a, b, tolerance=1e-6):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_densities_against_scipy():
    close(gaussian_nll(X, Y, 0.7), -scipy.stats.norm.logpdf(np.asarray(Y), np.asarray(X), 0.7), 1e-5)
    close(laplace_nll(X, Y, 0.7), -scipy.stats.laplace.logpdf(np.asarray(Y), np.asarray(X), 0.7), 1e-5)


def test_regression_by_hand():
    a, b = jnp.array([0.0, 1.0, 5.0]), jnp.array([0.5, 1.0, 2.0])
    close(squared_error(a, b), [0.25, 0, 9])
    close(absolute_error(a, b), [0.5, 0, 3])
    close(huber(a, b, 1.0), [0.125, 0, 2.5])
    close(huber(X, Y, 0.3), optax.losses.huber_loss(X, Y, delta=0.3))


def test_minimiser_is_the_mean_or_a_median():
    data = jnp.array([0.0, 1.0, 2.0, 3.0, 100.0])
    grid = jnp.linspace(-5, 110, 11501)
    best = lambda loss: float(grid[jax.vmap(lambda c: loss(jnp.full(5, c), data).sum())(grid).argmin()])  # noqa: E731
    # The sum of squares, 7,800, is equal to float32 accuracy at the neighbouring points of the grid.
    assert abs(best(squared_error) - 21.2) < 0.02 and abs(best(absolute_error) - 2) < 0.01


def test_cross_entropy_against_optax():
    close(softmax_cross_entropy(LOGITS, LABELS), optax.losses.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS))
    q = jax.nn.softmax(Y)
    close(softmax_cross_entropy(LOGITS, q), optax.losses.softmax_cross_entropy(LOGITS, q))
    smoothed = optax.smooth_labels(jax.nn.one_hot(LABELS, 5), 0.1)
    close(
        softmax_cross_entropy(LOGITS, LABELS, label_smoothing=0.1),
        optax.losses.softmax_cross_entropy(LOGITS, smoothed),
        1e-5,
    )
    close(sigmoid_cross_entropy(LOGITS, q), optax.losses.sigmoid_binary_cross_entropy(LOGITS, q))


def test_cross_entropy_per_pixel_with_ignored_sites():
    logits = jax.random.normal(jax.random.key(1), (2, 3, 3, 4))
    labels = jnp.where(jnp.arange(18).reshape(2, 3, 3) % 4 == 0, 255, jnp.arange(18).reshape(2, 3, 3) % 4)
    loss = softmax_cross_entropy(logits, labels, where=labels != 255)
    p = np.asarray(jax.nn.softmax(logits))
    for index in np.ndindex(2, 3, 3):
        label = int(labels[index])
        close(loss[index], 0 if label == 255 else -np.log(p[index][label]), 1e-5)


def test_a_wrong_label_cannot_pass_silently():
    wrong = LABELS.at[2].set(5).at[3].set(-1)
    loss = jax.jit(softmax_cross_entropy)(LOGITS, wrong)
    assert np.isnan(loss[2:4]).all() and np.isfinite(np.delete(loss, [2, 3])).all()
    with pytest.raises(ValueError, match=r"2 labels lie outside 0 … 4: -1, 5; .*ignore="):
        softmax_cross_entropy(LOGITS, wrong)


def test_penalties_spare_biases_and_norms():
    params = {
        "a": {"kernel": jnp.array([[3.0, 0.0], [4.0, 0.0]]), "bias": jnp.array([9.0, 9.0])},
        "n": {"scale": jnp.ones(2)},
    }
    assert float(l2(params)) == 12.5 and float(l1(params)) == 7
    close(group_lasso(params), np.sqrt(2) * 5)
    grads = jax.grad(lambda p: l2(p) + l1(p) + group_lasso(p))(params)
    assert (grads["a"]["bias"] == 0).all() and (grads["n"]["scale"] == 0).all()
    assert np.isfinite(grads["a"]["kernel"]).all()
    close(jax.grad(l2)(params)["a"]["kernel"], params["a"]["kernel"])


def test_objective_means_over_real_rows_and_adds_the_penalty():
    model = Dense(2)
    params, state = model.init(jax.random.key(0), jnp.ones((1, 3)))
    x, y = jax.random.normal(jax.random.key(1), (5, 3)), jnp.array([0, 1, 1, 0, 1])
    where = jnp.array([True, True, False, True, False])
    objective = supervised(model, softmax_cross_entropy, {"top": lambda o, t: o.max(-1)}, penalty=lambda p: 0.1 * l2(p))
    loss, aux = objective(params, state, {"image": x, "label": y, "where": where}, key=None, train=True)
    each = softmax_cross_entropy(x @ params["kernel"] + params["bias"], y)
    mean = float(each[np.asarray(where)].mean())
    close(loss, mean + 0.05 * float((params["kernel"] ** 2).sum()))
    close(aux.metrics["loss"].value(), mean)
    assert float(aux.metrics["loss"].count) == 3 and set(aux.metrics) == {"loss", "top"}


def test_l2_is_the_normal_prior_and_l1_the_laplace_prior():
    w, s = {"kernel": X}, 0.6
    prior = lambda p: gaussian_nll(jnp.zeros_like(X), p["kernel"], s).sum()  # noqa: E731
    close(jax.grad(prior)(w)["kernel"], jax.grad(lambda p: l2(p) / s**2)(w)["kernel"], 1e-5)
    laplace = lambda p: laplace_nll(jnp.zeros_like(X), p["kernel"], s).sum()  # noqa: E731
    close(jax.grad(laplace)(w)["kernel"], jax.grad(lambda p: l1(p) / s)(w)["kernel"], 1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_bad_smoothing(smoothing):
    with pytest.raises(ValueError, match="label_smoothing"):
        softmax_cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
