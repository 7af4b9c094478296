"""The mini-batch gradient over every batch there is: unbiased, and its covariance as predicted (lecture 6.1–6.2)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.stats import (
    batch_moments,
    batches,
    noise_by_size,
    per_example_gradients,
    predicted_covariance,
    sampled_noise,
)


def logistic_loss(params, example):
    x, y = example
    return jnp.logaddexp(0.0, -y * (x @ params["kernel"] + params["bias"]))


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        examples = jnp.asarray(rng.normal(size=(7, 2))), jnp.asarray(rng.choice([-1.0, 1.0], 7))
        params = {"kernel": jnp.asarray(rng.normal(size=2)), "bias": jnp.asarray(0.3)}
        yield params, examples, per_example_gradients(logistic_loss, params, examples)


def test_rows_are_the_gradients_of_single_examples(problem):
    params, (x, y), gradients = problem
    for i in range(7):
        one = jax.grad(logistic_loss)(params, (x[i], y[i]))
        np.testing.assert_allclose(gradients[i], [one["bias"], *one["kernel"]], rtol=1e-12)


@pytest.mark.sampled
@pytest.mark.parametrize("k", range(1, 8))
def test_without_replacement_it_is_unbiased_with_the_finite_population_factor(problem, k):
    params, examples, gradients = problem
    full = jax.grad(lambda p: jax.vmap(logistic_loss, (None, 0))(p, examples).mean())(params)
    mean, covariance = batch_moments(gradients, k)
    np.testing.assert_allclose(mean, [full["bias"], *full["kernel"]], rtol=1e-12, atol=1e-15)
    sigma = np.cov(np.asarray(gradients), rowvar=False, bias=True)
    np.testing.assert_allclose(covariance, sigma / k * (7 - k) / 6, rtol=1e-10, atol=1e-16)
    np.testing.assert_allclose(predicted_covariance(gradients, k), covariance, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("k", range(1, 5))
def test_with_replacement_it_is_unbiased_with_variance_over_k(problem, k):
    gradients = problem[2]
    mean, covariance = batch_moments(gradients, k, replace=True)
    np.testing.assert_allclose(mean, gradients.mean(0), rtol=1e-12)
    sigma = np.cov(np.asarray(gradients), rowvar=False, bias=True)
    np.testing.assert_allclose(covariance, sigma / k, rtol=1e-10)
    np.testing.assert_allclose(predicted_covariance(gradients, k, replace=True), covariance, rtol=1e-10)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_sampled_noise_is_the_exact_one_within_its_error(problem, k):
    exact = float(jnp.trace(batch_moments(problem[2], k).covariance))
    found = sampled_noise(jax.random.key(0), problem[2], k, 4000)
    assert abs(float(found.mean) - exact) <= 4 * float(found.standard_error) + 1e-12
    assert k == 7 or float(found.standard_error) < 0.03 * exact


def test_batches_are_every_choice_once():
    assert batches(5, 3).shape == (10, 3) and batches(3, 2, replace=True).shape == (9, 2)
    assert set(map(tuple, batches(5, 3))) == {c for c in itertools.product(range(5), repeat=3) if c[0] < c[1] < c[2]}
    assert batches(2, 3, replace=True).shape == (8, 3)


def test_impossible_batches_are_refused(problem):
    gradients = problem[2]
    for k, replace in ((0, False), (8, False), (0, True)):
        for call in (batch_moments, predicted_covariance):
            with pytest.raises(ValueError, match="cannot be drawn"):
                call(gradients, k, replace=replace)
        if not replace:
            with pytest.raises(ValueError, match="cannot be drawn"):
                sampled_noise(jax.random.key(0), gradients, k, 5)
    with pytest.raises(ValueError, match="too many"):
        batches(60, 20)


def test_one_example_has_no_variance():
    assert float(predicted_covariance(jnp.ones((1, 1)), 1)[0, 0]) == 0


def test_noise_by_size_is_what_is_predicted_and_what_is_sampled(problem):
    found = noise_by_size(problem[2], seed=5, draws=2000)
    np.testing.assert_array_equal(found["sizes"], [1, 2, 4])
    for i, k in enumerate(found["sizes"]):
        for name, replace in (("with", True), ("without", False)):
            trace = float(jnp.trace(predicted_covariance(problem[2], int(k), replace=replace)))
            np.testing.assert_allclose(found[name][i], trace, rtol=1e-10)
        sampled = sampled_noise(jax.random.key(5 + int(k)), problem[2], int(k), 2000)
        np.testing.assert_array_equal(found["measured"][i], sampled.mean)
        np.testing.assert_array_equal(found["error"][i], sampled.standard_error)
