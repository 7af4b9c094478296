"""Gridded densities against closed-form Gaussian marginals and conjugate posteriors; moments (lecture 2.1–2.12)."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from dlcore.stats import _moments as moments
from dlcore.stats import density
from dlcore.stats.density import Density, make_density, normalize

GRID = np.linspace(-8, 8, 161)
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.8]])
MEAN = np.array([0.5, -0.3])


def array(x):
    return jnp.asarray(x, jnp.float32)


def gaussian_2d():
    x = np.stack(np.meshgrid(GRID, GRID, indexing="ij"), -1)
    values = scipy.stats.multivariate_normal(MEAN, COVARIANCE).pdf(x)
    return make_density(array(values), (array(GRID), array(GRID)), ("x", "y"))


def test_gaussian_marginals_are_closed_form():
    for name, other, i in (("x", "y", 0), ("y", "x", 1)):
        found = density.marginalize(gaussian_2d(), other)
        assert found.axes == (name,)
        expected = scipy.stats.norm(MEAN[i], np.sqrt(COVARIANCE[i, i])).pdf(GRID)
        np.testing.assert_allclose(found.values, expected, atol=1e-5)
    assert float(density.integral(gaussian_2d())) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("y", [-1.0, 0.3, 0.34])
def test_gaussian_conditional_is_closed_form(y):
    slope = COVARIANCE[0, 1] / COVARIANCE[1, 1]
    expected = scipy.stats.norm(MEAN[0] + slope * (y - MEAN[1]), np.sqrt(1.0 - slope * COVARIANCE[0, 1])).pdf(GRID)
    found = density.condition(gaussian_2d(), y=y)
    np.testing.assert_allclose(found.values, expected, atol=1e-3)


def mixed():
    weights, means, stds = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.5, 1.0])
    values = weights * scipy.stats.norm(means, stds).pdf(GRID[:, None])
    return make_density(array(values), (array(GRID), None), ("x", "class")), weights


def test_mixed_discrete_and_continuous():
    joint, weights = mixed()
    np.testing.assert_allclose(density.marginalize(joint, "x").values, weights, atol=1e-5)
    mixture = density.marginalize(joint, "class")
    np.testing.assert_allclose(mixture.values, np.asarray(joint.values).sum(1), rtol=1e-6)
    posterior = density.condition(joint, x=-1.0).values
    seen = weights * scipy.stats.norm([-2.0, 1.0], [0.5, 1.0]).pdf(-1.0)
    np.testing.assert_allclose(posterior, seen / seen.sum(), rtol=1e-4)
    component = density.condition(joint, **{"class": 1})
    np.testing.assert_allclose(component.values, scipy.stats.norm(1, 1).pdf(GRID), atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.floats(1.5, 6), st.floats(1.5, 6), st.integers(0, 12), st.integers(0, 12))
def test_beta_bernoulli_posterior_is_conjugate(a, b, ones, zeros):
    grid = np.linspace(0, 1, 201)
    prior = normalize(array(scipy.stats.beta(a, b).pdf(grid)), (array(grid),), ("p",))
    posterior, evidence = density.bayes(prior, array(grid**ones * (1 - grid) ** zeros))
    np.testing.assert_allclose(posterior.values, scipy.stats.beta(a + ones, b + zeros).pdf(grid), atol=2e-2, rtol=1e-2)
    log_evidence = scipy.special.betaln(a + ones, b + zeros) - scipy.special.betaln(a, b)
    assert float(jnp.log(evidence)) == pytest.approx(log_evidence, abs=1e-2)


def test_normal_normal_posterior_is_conjugate():
    prior_std, noise, x = 1.5, 0.7, np.array([0.4, 1.9, 1.1, 0.8])
    prior = make_density(array(scipy.stats.norm(0, prior_std).pdf(GRID)), (array(GRID),), ("mean",))
    likelihood = np.prod([scipy.stats.norm(GRID, noise).pdf(value) for value in x], axis=0)
    posterior, evidence = density.bayes(prior, array(likelihood))
    precision = 1 / prior_std**2 + len(x) / noise**2
    expected = scipy.stats.norm(x.sum() / noise**2 / precision, precision**-0.5)
    np.testing.assert_allclose(posterior.values, expected.pdf(GRID), atol=1e-4)
    joint = scipy.stats.multivariate_normal(np.zeros(4), noise**2 * np.eye(4) + prior_std**2 * np.ones((4, 4)))
    assert float(evidence) == pytest.approx(joint.pdf(x), rel=1e-4)
    found = moments.density_moments(array(GRID), posterior)
    assert float(found.mean) == pytest.approx(expected.mean(), abs=1e-4)
    assert float(found.std) == pytest.approx(expected.std(), abs=1e-4)


def test_uneven_grids_integrate_exactly_what_is_linear():
    points = np.array([0.0, 0.1, 0.5, 2.0])
    weights = np.asarray(density.trapezoid_weights(array(points)))
    assert weights @ (3 * points + 1) == pytest.approx(3 * 2 + 2, rel=1e-6)
    assert weights @ points**2 == pytest.approx(np.trapezoid(points**2, points), rel=1e-6)


def test_moments_under_a_mass_function_and_samples():
    k = np.arange(9)
    binomial = scipy.stats.binom(8, 0.3)
    found = moments.pmf_moments(array(k), array(binomial.pmf(k)))
    np.testing.assert_allclose(found, [8 * 0.3, 8 * 0.3 * 0.7, np.sqrt(8 * 0.3 * 0.7)], rtol=1e-5)
    x = np.random.default_rng(0).normal(size=(50, 2))
    for unbiased in (False, True):
        found = moments.sample_moments(array(x), unbiased=unbiased)
        np.testing.assert_allclose(found, [x.mean(0), x.var(0, ddof=unbiased), x.std(0, ddof=unbiased)], atol=1e-6)


def test_log_likelihood_adds_up():
    x = np.random.default_rng(0).normal(size=20)
    log_prob = lambda params, x: -jnp.square(x - params["mean"])  # noqa: E731
    expected = -np.sum((x - 0.3) ** 2)
    assert float(moments.log_likelihood(log_prob, {"mean": 0.3}, array(x))) == pytest.approx(expected, rel=1e-5)


def test_what_is_no_density_is_refused():
    grid, flat = array(np.linspace(0, 1, 5)), jnp.ones(5)
    one = Density(flat, (grid,), ("x",))
    hole = normalize(array([0, 0, 0, 1, 1]), (grid,), ("x",))
    joint, _ = mixed()
    cases = [
        (lambda: make_density(2 * flat, (grid,), ("x",)), "integrate to 1, got 2"),
        (lambda: make_density(flat.at[0].set(-1), (grid,), ("x",)), "negative"),
        (lambda: make_density(flat.at[0].set(jnp.nan), (grid,), ("x",)), "finite"),
        (lambda: make_density(flat, (grid[::-1],), ("x",)), "increase"),
        (lambda: make_density(flat, (grid[:4],), ("x",)), "points of shape"),
        (lambda: make_density(flat, (grid,), ("x", "y")), "names"),
        (lambda: normalize(0 * flat, (grid,), ("x",)), "without mass"),
        (lambda: density.marginalize(one, "y"), "no axis"),
        (lambda: density.condition(one, x=1.5), "between 0.0 and 1.0"),
        (lambda: density.condition(hole, x=0.1), "cannot condition on x = 0.1"),
        (lambda: density.condition(joint, **{"class": 0.5}), "place"),
        (lambda: density.bayes(one, flat[:3]), "likelihood has shape"),
        (lambda: density.bayes(one, 0 * flat), "cannot condition"),
        (lambda: moments.pmf_moments(flat, flat), "sum to 1"),
        (lambda: moments.pmf_moments(flat, flat[:2] / 2), "shape"),
        (lambda: moments.density_moments(flat[:3], one), "shape"),
        (lambda: moments.sample_moments(jnp.ones(1), unbiased=True), "too few"),
        (lambda: moments.sample_moments(jnp.ones((0, 2))), "too few"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
