"""Bias and variance over repeated training sets: the identity, and estimators of a variance (lecture 3)."""

import jax
import numpy as np
import pytest

from dlcore import studies
from dlcore.report import regression


@pytest.fixture(scope="module")
def found():
    options = {"sets": 40, "examples": 12, "noise": 0.3, "degree": 5, "penalties": np.array([1e-6, 1.0, 1e4])}
    return studies.repeated_regression(jax.random.key(0), **options)


def test_fits_are_those_of_every_training_set(found):
    with jax.enable_x64(True):
        for i, key in enumerate(jax.random.split(jax.random.key(0), 40)[:3]):
            x, y = map(np.asarray, studies.problem(key, 12, 0.3))
            degree = int(found["by_degree"]["shown"][-1])
            line = np.polynomial.Polynomial.fit(x, y, degree)(found["grid"])
            np.testing.assert_allclose(found["by_degree"]["fits"][i, -1], line, rtol=1e-6, atol=1e-8)


def test_squared_bias_and_variance_make_the_error(found):
    for kind in ("by_degree", "by_penalty"):
        parts = found[kind]
        np.testing.assert_allclose(parts["bias_squared"] + parts["variance"], parts["error"], rtol=1e-9)
    # The strongest penalty leaves 0: no variance, and the mean square of the truth as bias.
    bias = np.square(found["truth"]).mean()
    assert found["by_penalty"]["variance"][-1] < 1e-6
    assert found["by_penalty"]["bias_squared"][-1] == pytest.approx(bias, rel=1e-2)
    metrics = studies.regression_metrics(found)
    assert metrics["identity_error"] < 1e-12
    assert metrics["polynomial_best_error"] == found["by_degree"]["error"].min()
    assert metrics["ridge_best_penalty"] in found["penalties"]


def test_figures_name_the_capacities_that_they_show(found):
    drawn = regression.bias_and_variance(found, studies.PARTS, sets=40, examples=12, noise=0.3)
    assert list(drawn) == ["polynomials", "ridge", "polynomial_fits", "ridge_fits"]
    titles = list(drawn["polynomial_fits"].arguments[2])
    assert titles == [f"degree {d}" for d in found["by_degree"]["shown"]]
    assert all(title.startswith("degree 5, α = ") for title in drawn["ridge_fits"].arguments[2])


def test_two_estimators_of_a_variance_are_consistent_and_one_is_not():
    beyond = studies.variance_estimators(jax.random.key(0), (4, 256), 0.25, 1000)
    assert (beyond[1, :2] < 0.02).all() and abs(beyond[1, 2] - beyond[0, 2]) < 0.05
    sample = np.array([1.0, 4.0, 2.0])
    expected = [np.var(sample), np.var(sample, ddof=1), 4.5]
    np.testing.assert_allclose(studies.variances(jax.numpy.asarray(sample)), expected, rtol=1e-6)
