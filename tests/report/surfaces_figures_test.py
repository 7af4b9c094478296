"""Figures of ways over surfaces are drawn from plain arrays."""

import io

import numpy as np

from dlcore.report import surfaces as figures

AXIS = np.linspace(-2, 2, 30)
BOWL = AXIS**2 + 5 * AXIS[:, None] ** 2
WAY = np.array([[1.5, -1.0], [0.5, 0.5], [0.0, 0.0]])
PANEL = figures.Landscape("bowl", (-2, -2), (2, 2), BOWL, 0.0, np.zeros((1, 2)), {"one": WAY, "other": -WAY[:1]})


def drawn(figure):
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    for axes in figure.axes:
        assert axes.get_xlabel() and axes.get_ylabel()
    return figure


def test_ways_over_contours_have_one_legend_and_end_where_they_end():
    figure = drawn(figures.paths([PANEL, PANEL._replace(minima=np.empty((0, 2)))]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "other"]
    lines = [line.get_xydata() for line in figure.axes[0].lines]
    assert any(len(line) == 3 and (line == WAY).all() for line in lines)
    assert len(drawn(figures.descent_rates(PANEL, 0.4)).axes) == 2


def test_race_is_against_evaluations_and_floors_at_the_bottom():
    ways = {"bowl": {"one": (np.array([1, 3]), np.array([1.0, 0.0])), "other": (np.array([1]), np.array([2.0]))}}
    figure = drawn(figures.race(ways, columns=1, floor=1e-8))
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), [[1, 1.0], [3, 1e-8]])
