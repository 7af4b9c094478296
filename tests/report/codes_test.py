"""Figures of codes show the numbers that they are given."""

import numpy as np

from dlcore.report import codes


def test_units_stand_by_their_mean_and_dead_ones_are_counted():
    h = np.array([[0.0, 1.0, -3.0], [0.0, 0.0, -1.0]])
    left, right = codes.histogram(h, target=0.5).axes
    assert sum(bar.get_height() for bar in left.patches) == h.size
    mean, on, target = (line.get_ydata() for line in right.lines)
    np.testing.assert_array_equal(mean, [2, 0.5, 0])
    np.testing.assert_array_equal(on, [1, 0.5, 0])
    assert target[0] == 0.5 and right.get_title() == "1 of 3 units dead"


def test_the_map_has_the_principal_axes_and_is_not_mirrored():
    rng = np.random.default_rng(0)
    h = rng.normal(size=(50, 4)) * np.array([3.0, 1.0, 0.1, 0.1]) + 7
    labels = np.arange(50) % 3
    first = codes.plane(h, labels, ("a", "b", "c")).axes[0]
    drawn = np.concatenate([points.get_offsets() for points in first.collections])
    u, s, v = np.linalg.svd(h - h.mean(0), full_matrices=False)
    sign = np.sign(v[[0, 1], np.abs(v[:2]).argmax(1)])
    expected = (u * s)[:, :2] * sign
    np.testing.assert_allclose(drawn, np.concatenate([expected[labels == k] for k in range(3)]), atol=1e-8)
    assert f"({s[0] ** 2 / (s**2).sum():.0%} of the variance)" in first.get_xlabel()
    mirrored = codes.plane(-h[:, ::-1], labels, ("a", "b", "c")).axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(np.abs(mirrored), np.abs(first.collections[0].get_offsets()), atol=1e-8)
    assert len(codes.plane(h[:, :1], labels, ("a", "b", "c")).axes[0].collections) == 3, "a code of one unit"


def test_filters_come_by_their_norm_with_grey_for_zero():
    kernel = np.zeros((2, 2, 1, 3))
    kernel[0, 0, 0], kernel[1, 1, 0] = (1.0, 3.0, 0.0), (0.0, -1.5, 0.0)
    drawn = codes.filters(kernel, "weights", most=2).axes[0].images[0].get_array()
    first, second = drawn[1:3, 1:3], drawn[1:3, 4:6]
    # Of ±1 and 0: white, three eighths, the middle of the greys.
    np.testing.assert_array_equal(first, [[255, 128], [128, 64]])
    np.testing.assert_array_equal(second, [[255, 128], [128, 128]])
    assert codes.filters(kernel, most=1).axes[0].images[0].get_array().shape < drawn.shape


def test_bars_are_deviations_over_seeds():
    errors = {"random": {"error": np.array([0.3, 0.5])}, "pretrained": {"error": np.array([0.2, 0.3])}}
    axes = codes.few_labels({"labels_10": errors, "labels_100": errors}).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [40, 40])
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [10, 100])
    segments = axes.collections[0].get_segments()
    np.testing.assert_allclose(np.diff(segments[0][:, 1]), 2 * 10 * np.sqrt(2))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["random start", "pretrained start"]


def test_labels_stand_in_the_order_of_their_numbers_in_whatever_order_cells_come():
    cells = {f"labels_{n}": {"random": {"error": np.array([e, e])}} for n, e in ((100, 0.2), (1000, 0.1), (50, 0.4))}
    line = codes.few_labels(cells).axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [50, 100, 1000])
    np.testing.assert_allclose(line.get_ydata(), [40, 20, 10])
