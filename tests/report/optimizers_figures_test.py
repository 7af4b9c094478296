"""Figures of optimisation are drawn from plain arrays, diverged runs included."""

import io

import numpy as np

from dlcore.report import optimizers as figures

AXIS = np.linspace(-2, 2, 30)
BOWL = AXIS**2 + 5 * AXIS[:, None] ** 2
WAY = np.array([[1.5, -1.0], [0.5, 0.5], [0.0, 0.0]])
PANEL = figures.Panel("bowl", (-2, -2), (2, 2), BOWL, 0.0, np.zeros((1, 2)), {"one": WAY, "other": -WAY[:1]})
STEPS = np.array([5, 10, 15])


def drawn(figure):
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    for axes in figure.axes:
        if axes.get_label() != "<colorbar>":
            assert axes.get_xlabel() and axes.get_ylabel()
    return figure


def texts(figure):
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def test_ways_over_contours_have_one_legend_and_end_where_they_end():
    figure = drawn(figures.paths([PANEL, PANEL._replace(minima=np.empty((0, 2)))]))
    assert texts(figure) == ["one", "other"]
    lines = [line.get_xydata() for line in figure.axes[0].lines]
    assert any(len(line) == 3 and (line == WAY).all() for line in lines)
    assert len(drawn(figures.descent_rates(PANEL, 0.4)).axes) == 2


def test_race_is_against_evaluations_and_floors_at_the_bottom():
    ways = {"bowl": {"one": (np.array([1, 3]), np.array([1.0, 0.0])), "other": (np.array([1]), np.array([2.0]))}}
    figure = drawn(figures.race(ways, columns=1, floor=1e-8))
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), [[1, 1.0], [3, 1e-8]])


def test_diverged_runs_are_crosses_and_grey_cells():
    losses = np.array([[2.0, 1.0, 0.5], [2.0, 50.0, np.nan]])
    final = {"α = 0": np.array([0.5, np.inf])}
    figure = drawn(figures.learning_rates((0.1, 1.0), STEPS, losses, 2.3, final))
    assert "diverged" in texts(figure)
    assert not any(np.nanmax(line.get_ydata(), initial=0) > 3 * 2.3 + 1e-6 for line in figure.axes[0].lines)
    final = np.array([[0.5, 0.4], [0.3, np.inf]])
    figure = drawn(figures.momentum((0.1, 1.0), (0.0, 0.9), final, STEPS, losses, 0.1))
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.5", "0.4", "0.3", "∞"]


def test_batches_and_spectra():
    sizes = np.array([1, 2, 4])
    noise = (sizes, 1.1 / sizes, 1.0 / sizes, (5 - sizes) / sizes / 4)
    losses = np.array([[2.0, 1.5, 1.0], [2.0, 1.0, 0.5], [1.5, 0.7, 0.3]])
    figure = drawn(figures.batch_sizes((1, 2, 4), STEPS, losses, noise, 0.1))
    np.testing.assert_array_equal(figure.axes[1].lines[2].get_xdata(), 4 * STEPS)
    at = np.sinh(np.linspace(-3, 6, 50)) * 0.01
    figure = drawn(figures.spectrum(at, np.exp(-np.abs(at)), (-0.1, 1.9), "title"))
    assert texts(figure) == ["λmin = -0.1", "λmax = 1.9"]
