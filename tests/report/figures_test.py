"""Figures show the numbers they are given, and files are whole and reproducible."""

import io
import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dlcore.report import curves, figures

NAMES = ["cat", "dog", "bird"]


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def panels(figure):
    return {axes.get_ylabel(): axes for axes in figure.axes}


def test_curves_put_the_splits_of_a_quantity_on_one_panel():
    rows = [
        {"step": 1, "train/loss": 2.0, "train/accuracy": 0.1, "learning_rate": 0.5},
        {"step": 2, "train/loss": 1.0, "train/accuracy": 0.3, "learning_rate": 0.25},
        {"step": 2, "validation/accuracy": 0.2},
    ]
    found = panels(figures.curves(rows))
    assert list(found) == ["loss", "accuracy", "learning rate"]
    accuracy = lines(found["accuracy"])
    np.testing.assert_array_equal(accuracy["train"], [[1, 0.1], [2, 0.3]])
    np.testing.assert_array_equal(accuracy["validation"], [[2, 0.2]])
    (rate,) = found["learning rate"].get_lines()
    np.testing.assert_array_equal(rate.get_xydata(), [[1, 0.5], [2, 0.25]])
    assert [text.get_text() for text in found["accuracy"].get_legend().get_texts()] == ["train", "validation"]
    assert all(axes.get_xlabel() == "step" for axes in found.values())


def test_variants_of_a_quantity_share_a_panel():
    names = ("he", "lecun", "zeros")
    rows = [{"step": 1, **{f"train/accuracy_{name}": i / 10 for i, name in enumerate(names)}, "train/error_a": 1.0}]
    rows += [{"step": 2, **{f"validation/accuracy_{name}": i / 5 for i, name in enumerate(names)}, "train/loss": 2.0}]
    figure = figures.curves(rows)
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy", "error a"], "the loss first"
    drawn = figure.axes[1].get_lines()
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == list(names)
    assert {(line.get_linestyle(), float(line.get_ydata()[0])) for line in drawn} == {
        *(("--", i / 10) for i in range(3)),
        *(("-", i / 5) for i in range(3)),
    }
    assert len({line.get_color() for line in drawn}) == 3


def test_few_curves_come_first_and_none_is_lost():
    quantities = [f"q{i}" for i in range(12)]
    rows = [{"step": 1, **{f"train/{q}": 1.0 for q in quantities}, "train/loss": 1.0, "train/learning_rate": 0.5}]
    rows += [{"step": 1, "validation/q7": 1.0, "validation/only": 2.0}]
    first, rest = curves.first(rows), curves.rest(rows)
    shown = [axes.get_ylabel() for axes in figures.curves(first).axes]
    assert shown == ["loss", "q7", "only", "q0", "q1", "q2", "q3", "q4", "q5"]
    others = [axes.get_ylabel() for axes in figures.curves(rest).axes]
    assert others == ["q6", "q8", "q9", "q10", "q11", "learning rate"]
    assert curves.rest(rows[:1]) and not curves.rest([{"step": 1, "train/loss": 1.0}])


@pytest.mark.parametrize("rows", [[], [{"step": 1}], [{"step": 1, "train/loss": None}]])
def test_curves_without_points_are_drawn(rows, tmp_path):
    figures.save(figures.curves(rows), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 0


def test_curves_leave_gaps_where_values_are_missing(tmp_path):
    rows = [{"step": s, "train/loss": v} for s, v in enumerate([1.0, None, math.nan, math.inf, 0.5])]
    figure = figures.curves(rows)
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [0, 2, 3, 4])
    figures.save(figure, tmp_path / "gaps.png")


def test_loss_axis_is_logarithmic_for_positive_values_of_more_than_one_decade():
    scale = [
        figures.curves([{"step": 1, "train/loss": 1.0}, {"step": 2, "train/loss": x}]).axes[0].get_yscale()
        for x in (0.09, 0.5, -0.1)
    ]
    assert scale == ["log", "linear", "linear"]


def test_confusion_shows_counts_and_row_shares():
    matrix = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
    (axes,) = figures.confusion(matrix, NAMES).axes
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "3", (1, 0): "1", (0, 2): "2", (2, 2): "2"}
    shares = axes.get_images()[0].get_array()
    np.testing.assert_allclose(shares, [[0.75, 0.25, 0], [0, 0, 0], [0.5, 0, 0.5]])
    assert "5 of 8" in axes.get_title() and "62.50%" in axes.get_title()
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


@pytest.mark.parametrize("channels", [1, 3])
def test_mistakes_are_captioned(channels):
    images = np.random.default_rng(0).random((3, 4, 4, channels))
    labels, predicted, confidence = np.array([0, 1, 2]), np.array([2, 0, 1]), np.array([0.9, 0.555, 0.4])
    figure = figures.mistakes(images, labels, predicted, confidence, NAMES, columns=2)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["cat → bird\n90.0%", "dog → cat\n55.5%", "bird → dog\n40.0%"]
    drawn = figure.axes[1].get_images()[0].get_array()
    np.testing.assert_array_equal(drawn.reshape(images[1].shape), images[1])


def test_no_mistakes_is_a_figure_too(tmp_path):
    empty = np.zeros(0, int)
    figures.save(figures.mistakes(np.zeros((0, 4, 4, 1)), empty, empty, np.zeros(0), NAMES), tmp_path / "none.png")
    with Image.open(tmp_path / "none.png") as image:
        image.verify()


def test_calibration_error_is_the_weighted_gap():
    confidence, correct, count = np.array([0.0, 1.2, 2.7]), np.array([0.0, 1.0, 3.0]), np.array([0, 3, 3])
    top, bottom = figures.calibration(confidence, correct, count).axes
    gap = 3 / 6 * abs(1 / 3 - 0.4) + 3 / 6 * abs(1.0 - 0.9)
    assert f"{gap:.2%}" in top.get_title()
    np.testing.assert_allclose([bar.get_height() for bar in top.patches], [0, 1 / 3, 1])
    np.testing.assert_allclose(lines(top)["bin means"], [[0.4, 1 / 3], [0.9, 1.0]])
    assert [bar.get_height() for bar in bottom.patches] == [0, 3, 3]


def test_grid_places_every_image_in_reading_order():
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3), np.uint8)
    grid = figures.image_grid(images, columns=2, gap=1)
    assert grid.shape == (3 * 3 + 1, 2 * 4 + 1, 3) and grid.dtype == np.uint8
    for i, image in enumerate(images):
        top, left = 1 + (i // 2) * 3, 1 + (i % 2) * 4
        np.testing.assert_array_equal(grid[top : top + 2, left : left + 3], image)
    assert (grid[7:9, 5:8] == 230).all(), "an unused place stays background"


def test_grid_rounds_and_clips_floats():
    images = np.array([-1.0, 0.0, 0.5, 1.0, 2.0]).reshape(5, 1, 1, 1)
    np.testing.assert_array_equal(figures.image_grid(images, columns=5, gap=0).ravel(), [0, 0, 128, 255, 255])


@pytest.mark.parametrize(("shape", "columns"), [((0, 2, 2, 1), 4), ((2, 2, 2), 4), ((2, 2, 2, 1), 0)])
def test_grid_refuses_what_is_not_images(shape, columns):
    with pytest.raises(ValueError, match="image_grid"):
        figures.image_grid(np.zeros(shape), columns=columns)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_holds_the_pixels(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (3, 2, channels), np.uint8)
    path = tmp_path / "samples" / "a.png"
    figures.save_png(image, path, scale=3)
    read = np.asarray(Image.open(path)).reshape(9, 6, channels)
    np.testing.assert_array_equal(read[1::3, 1::3], image)
    np.testing.assert_array_equal(read[::3, ::3], image)


def test_equal_figures_give_equal_bytes(tmp_path):
    matrix = np.eye(3, dtype=int)
    for name in ("a", "b"):
        figures.save(figures.confusion(matrix, NAMES), tmp_path / f"{name}.png", dpi=50)
    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    assert Image.open(io.BytesIO(data)).info.keys() <= {"dpi"}, "no date, no program name"


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    figures.write_bytes(path, b"old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        figures.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"


def test_written_files_leave_nothing_beside_them(tmp_path):
    figures.write_bytes(tmp_path / "new" / "a", b"x")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]


@pytest.mark.parametrize("kind", ["figure", "axes"])
def test_long_titles_stay_inside_the_figure(tmp_path, kind):
    figure = Figure(figsize=(2.5, 2.5), layout="constrained")
    axes = figure.add_subplot()
    title = "a title that says much more than a narrow figure has room for on one line"
    text = figure.suptitle(title) if kind == "figure" else axes.set_title(title)
    figures.save(figure, tmp_path / "figure.png", dpi=100)
    box = text.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert box.x0 >= 0 and box.x1 <= 250 and box.y1 <= 250 and box.height > 20, "in several lines"
    assert text.get_text() == title
