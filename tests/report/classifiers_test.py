"""Figures of classifiers draw what they are given."""

import numpy as np

from dlcore.report.classifiers import calibrations, class_samples, curves_by_count, learning_curves, robustness


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


def test_curves_stand_by_the_number_in_the_name_of_a_cell_in_whatever_order_cells_come():
    cells = {"n300": {"qda": np.asarray([0.9, 0.5])}, "n50": {"qda": np.asarray([0.5, 2.0])}}
    counts, scores = curves_by_count(cells, ("qda",))["learning_curves"].arguments
    assert counts == [50, 300]
    np.testing.assert_array_equal(scores["qda"], [[0.5, 2.0], [0.9, 0.5]])


def test_samples_of_a_class_share_a_line():
    labels = np.array([0, 1, 0, 1])
    images = labels[:, None, None, None] * np.ones((4, 2, 2, 1))
    drawn = class_samples(images, labels, ("zero", "one"), {"naive_bayes": images})
    lines = dict(drawn["samples"].arguments[0])
    assert list(lines) == ["zero", "one"] and (lines["one"] == 1).all() and lines["zero"].shape == (2, 2, 2, 1)
    assert drawn["samples_gaussian"].arguments[0][0][0] == "naive bayes"
