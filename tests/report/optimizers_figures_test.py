"""Figures of optimisers on a network are drawn from plain arrays, diverged runs included."""

import io

import numpy as np

from dlcore.report import optimizers as figures

STEPS = np.array([5, 10, 15])
START = 2.3


def drawn(figure):
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    for axes in figure.axes:
        if axes.get_label() != "<colorbar>":
            assert axes.get_xlabel() and axes.get_ylabel()
            low, high = axes.get_ylim()
            # What is drawn must not be squeezed into an edge of a logarithmic axis.
            assert axes.get_yscale() != "log" or 1 < high / low < 1e9
    return figure


def texts(figure):
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def crosses(axes):
    return np.concatenate([line.get_xydata() for line in axes.lines if line.get_marker() == "x"])


LOSSES = np.array([[2.0, 1.0, 0.5], [2.0, 50.0, np.nan]])


def test_diverged_learning_rates_are_crosses():
    figure = drawn(figures.learning_rates((0.1, 1.0), STEPS, LOSSES, START, {"α = 0": np.array([0.5, np.inf])}))
    assert "diverged" in texts(figure) and "α = 0" in texts(figure)
    np.testing.assert_allclose(crosses(figure.axes[1]), [[1.0, 3 * START]])
    lines = [line.get_xydata() for line in figure.axes[0].lines]
    np.testing.assert_array_equal(lines[0], np.stack([STEPS, LOSSES[0]], 1))
    np.testing.assert_array_equal(lines[1][:, 1], [2.0, np.nan, np.nan])


def test_the_race_shows_each_at_its_best_rate():
    ways = {"one": LOSSES, "other": LOSSES[::-1], "lost": 100 * LOSSES}
    figure = drawn(figures.race((0.1, 1.0), STEPS, ways, START))
    assert texts(figure)[:2] == ["one, ε = 0.1", "other, ε = 1"]
    for line in figure.axes[0].lines[:2]:
        np.testing.assert_array_equal(line.get_xydata(), np.stack([STEPS, LOSSES[0]], 1))
    assert sorted(crosses(figure.axes[1])[:, 0]) == [0.1, 0.1, 1.0, 1.0]


def test_momentum_has_a_cell_for_every_pair():
    final = np.array([[0.5, 0.4], [0.3, np.inf]])
    figure = drawn(figures.momentum((0.1, 1.0), (0.0, 0.9), final, STEPS, LOSSES, 0.1))
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.5", "0.4", "0.3", "∞"]


def test_batches_are_drawn_per_step_and_per_example_with_their_noise():
    sizes = np.array([1, 2, 4])
    losses = np.array([[2.0, 1.5, 1.0], [2.0, 1.0, 0.5], [1.5, 0.7, 0.3]])
    noise = {"sizes": sizes, "measured": 1.1 / sizes, "error": 0.1 / sizes, "with": 1 / sizes}
    noise["without"] = noise["with"] * (5 - sizes) / 4
    figure = drawn(figures.batch_sizes((1, 2, 4), STEPS, losses, noise, 0.1))
    np.testing.assert_array_equal(figure.axes[1].lines[2].get_xdata(), 4 * STEPS)
    np.testing.assert_array_equal(figure.axes[2].lines[1].get_ydata(), noise["without"])


def test_spectrum_marks_its_ends_and_shows_single_eigenvalues():
    at = np.sinh(np.linspace(-3, 6, 50)) * 0.01
    density = np.exp(-np.abs(at) / 0.2)
    figure = drawn(figures.spectrum(at, density, (-0.09, 1.9), 0.01, "title"))
    assert texts(figure) == ["λmin = −0.09", "λmax = 1.9"]
    assert figure.axes[0].get_ylim()[0] < np.interp(1.9, at, density)
    np.testing.assert_allclose(figure.axes[0].get_xticks(), [-0.1, 0.0, 0.1, 1.0])
