"""Figures of ensembles and of scales show the numbers that they are given."""

import numpy as np

from dlcore.report import ensembles, scales
from dlcore.studies import Scaling


def test_the_error_of_the_whole_bag_lies_on_the_curve():
    errors = np.random.default_rng(0).standard_normal((4, 50, 3)) + np.random.default_rng(1).standard_normal((50, 3))
    axes = ensembles.average(errors).axes[0]
    curve, points, floor, independent = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(points[-1], np.square(errors.mean(0)).sum(-1).mean())
    np.testing.assert_allclose(curve[-1], points[-1])
    np.testing.assert_allclose(curve[0], np.square(errors).sum(-1).mean())
    assert floor[0] < points[-1] and independent[0] == curve[0] / 4


def test_bars_are_percentages_with_their_standard_error():
    figure = ensembles.methods({"single": {"error": 0.1, "ece": 0.04}, "mc_dropout": {"error": 0.08, "ece": 0.02}}, 900)
    left, right = figure.axes
    np.testing.assert_allclose([bar.get_height() for bar in left.patches], [10, 8])
    np.testing.assert_allclose([bar.get_height() for bar in right.patches], [4, 2])
    (segments,) = [c.get_segments() for c in left.collections]
    np.testing.assert_allclose(np.diff(segments[0][:, 1]), 2 * 100 * np.sqrt(0.1 * 0.9 / 900))
    assert [label.get_text() for label in left.get_xticklabels()] == ["single", "mc dropout"]


def test_schemes_that_are_dead_are_named_and_not_drawn():
    found = Scaling(np.ones(3), np.ones(3), np.ones((3, 4)))
    dead = Scaling(np.zeros(3), np.zeros(3), np.zeros((3, 4)))
    figure = scales.scaling({"he": found, "zeros": dead}, "3 layers")
    assert [len(axes.lines) for axes in figure.axes] == [1, 1, 2]
    assert "all 0: zeros" in figure.get_suptitle()
