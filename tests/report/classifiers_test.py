"""Figures of classifiers draw what they are given."""

import numpy as np

from dlcore.report.classifiers import calibrations, learning_curves, robustness


def lines(axes):
    return {line.get_label(): np.asarray(line.get_ydata()) for line in axes.get_lines()}


def test_learning_curves_show_errors_in_percent_and_nats():
    scores = {"naive_bayes": np.asarray([[0.5, 2.0], [0.9, 0.5]]), "qda": np.asarray([[0.6, 1.0], [1.0, 0.1]])}
    left, right = learning_curves([10, 100], scores).axes
    np.testing.assert_allclose(lines(left)["naive bayes"], [50, 10])
    assert np.isnan(lines(left)["qda"][1])  # No error has no logarithm.
    np.testing.assert_allclose(lines(right)["qda"], [1.0, 0.1])


def test_robustness_shows_accuracies():
    scores = {"lda": {"missing": np.asarray([[0.9, 1], [0.5, 2]]), "noise": np.asarray([[0.8, 1]])}}
    left, right = robustness((0.0, 0.5), (0.1,), scores, 0.1).axes
    np.testing.assert_allclose(lines(left)["lda"], [90, 50])
    np.testing.assert_allclose(lines(right)["lda"], [80])


def test_calibrations_name_their_errors():
    confidence, correct, count = np.asarray([0.0, 1.2, 4.5]), np.asarray([0, 1, 5]), np.asarray([0, 2, 5])
    (axes,) = calibrations({"qda": (confidence, correct, count)}).axes
    assert axes.get_title() == "qda\nECE 10.00%"
