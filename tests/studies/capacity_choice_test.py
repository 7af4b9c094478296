"""The degree that cross-validation chooses, on a problem whose truth is known (lecture 1.4–1.8)."""

import jax
import numpy as np
import pytest

from dlcore import studies
from dlcore.report import regression


@pytest.fixture(scope="module")
def found():
    return studies.nested_polynomials(examples=20, noise=0.2, degree=7, folds=4)


@pytest.mark.slow
def test_errors_are_those_of_least_squares_by_numpy(found):
    with jax.enable_x64(True):
        fresh = [np.asarray(a) for a in studies.problem(jax.random.key(1), 10_000, 0.2)]
    for degree in (0, 3, 7):
        line = np.polynomial.Polynomial.fit(found["x"], found["y"], degree)
        assert found["train"][degree] == pytest.approx(np.square(line(found["x"]) - found["y"]).mean(), rel=1e-6)
        assert found["test"][degree] == pytest.approx(np.square(line(fresh[0]) - fresh[1]).mean(), rel=1e-6)
        np.testing.assert_allclose(found["curves"][degree], line(found["grid"]), rtol=1e-5, atol=1e-8)


def test_the_chosen_degree_has_the_least_validated_error_and_no_test_point_is_looked_at(found):
    assert found["chosen"] == found["validated_mean"].argmin()
    metrics = studies.polynomial_metrics(found)
    assert metrics["polynomial_chosen_mse"] == found["test"][found["chosen"]]
    assert metrics["polynomial_best_mse"] == found["test"].min() <= metrics["polynomial_chosen_mse"]
    assert metrics["polynomial_highest_mse"] == found["test"][7]


def test_figures_show_a_line_the_choice_and_the_highest_degree(found):
    drawn = regression.capacity(found, examples=20, noise=0.2, folds=4)
    assert list(drawn["fits"].arguments[4]) == [f"degree {d}" for d in dict.fromkeys((1, int(found["chosen"]), 7))]
    assert drawn["degrees"].options["floor"] == pytest.approx(0.04) and "4-fold" in drawn["degrees"].options["title"]
