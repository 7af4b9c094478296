"""Names of classes are drawn as they are, whatever they are, and figures stay bounded however many there are."""

import io
import itertools
import unicodedata

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from dlcore.report import density, figures, gan, studies
from dlcore.report.text import shown, width

AWKWARD = [
    "Ba$$in", "x", "$", "a$b$c", "$\\frac$", "a_b^{c}", "\\", "%s {0}", "<b>&amp;", "new\nline", "tab\there", "",
    "cat 😀", "猫犬" * 30, "very long " * 20, "bad \udcff byte", "\u202eright to left", "e\u0301" * 40, "\x00",
]  # fmt: skip


def rendered(figure, tmp_path):
    figures.save(figure, tmp_path / "figure.png", dpi=40)
    with Image.open(tmp_path / "figure.png") as image:
        return image.size


def predictions(classes, rng):
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (rng.integers(classes, size=500), rng.integers(classes, size=500)), 1)
    return matrix


def drawn_names(classes_figure):
    """Texts that are not numbers on an axis, with whether matplotlib would read mathematics in them."""
    return {text.get_text(): text.get_parse_math() for text in classes_figure.findobj(Text) if text.get_text()}


@pytest.mark.parametrize("name", AWKWARD)
def test_any_name_is_one_short_line_of_characters(name):
    line = shown(name, 12)
    assert width(line) <= 12 and line.isprintable()
    line.encode()
    if len(name) < 5 and name.isprintable():
        assert line == name


def test_short_names_are_unchanged_and_long_ones_keep_both_ends():
    assert shown("Ba$$in") == "Ba$$in" and shown("a\nb") == "a\\nb"
    assert shown("abcdefghij", 10) == "abcdefghij" and shown("abcdefghijk", 7) == "abc…ijk"
    assert shown("猫" * 9, 7) == "猫…猫" and unicodedata.east_asian_width("猫") == "W"


@pytest.mark.slow
@pytest.mark.parametrize("names", [AWKWARD[:2], AWKWARD], ids=["two", "all"])
def test_awkward_names_are_drawn_literally_on_every_figure(names, tmp_path, recwarn):
    rng = np.random.default_rng(0)
    count = len(names)
    labels = np.arange(count)
    drawn = [
        figures.confusion(predictions(count, rng), names),
        figures.mistakes(rng.random((count, 4, 4, 3)), labels, labels[::-1], rng.random(count), names),
        gan.histogram(rng.integers(9, size=count), np.ones(count) / count, names),
    ]
    for figure in drawn:
        rendered(figure, tmp_path)
    assert not recwarn.list, [str(w.message) for w in recwarn.list]
    for figure in (drawn[0], drawn[2]):
        found = drawn_names(figure)
        assert all(found[shown(name)] is False for name in names if name)
    assert any("Ba$$in → " in text and not math for text, math in drawn_names(drawn[1]).items())


def test_a_title_with_the_name_of_a_file_is_literal(tmp_path):
    points = np.random.default_rng(0).normal(size=(9, 2))
    title = "npz:/a$^$b/$"
    low, high = density.square(points)
    drawn = [
        density.density_and_samples(low, high, np.ones((4, 4)), points, points, title=title),
        studies.consistency([2, 4], {"a": np.ones(2)}, 0.1, title=title),
    ]
    for figure in drawn:
        rendered(figure, tmp_path)
        assert drawn_names(figure)[title] is False


@pytest.mark.sampled
@pytest.mark.parametrize("classes", [1, 26, 2000])
def test_figures_are_bounded_at_any_number_of_classes(classes, tmp_path):
    rng = np.random.default_rng(0)
    names = [f"class number {i}" for i in range(classes)]
    confusion = figures.confusion(predictions(classes, rng), names)
    histogram = gan.histogram(np.ones(classes, int), np.ones(classes) / classes, names)
    for figure in (confusion, histogram):
        assert max(figure.get_size_inches()) <= figures.LARGEST_SIDE
        assert max(rendered(figure, tmp_path)) <= 40 * figures.LARGEST_SIDE
        ticks = [label for label in figure.axes[0].get_xticklabels() if label.get_text()]
        assert len(ticks) == classes if classes <= 100 else 20 < len(ticks) < classes
        assert [label.get_text() for label in ticks[:2]] == [shown(names[i]) for i in ticks_at(figure)[:2]]


def ticks_at(figure):
    return [int(place) for place in figure.axes[0].get_xticks()]


@pytest.mark.slow
@pytest.mark.parametrize("classes", [10, 200, 700])
def test_names_on_an_axis_do_not_overlap(classes):
    figure = figures.confusion(np.eye(classes, dtype=int), [f"a class {i}" for i in range(classes)])
    figure.savefig(io.BytesIO(), format="png", dpi=72)
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(a.y1 <= b.y0 + 0.5 or b.y1 <= a.y0 + 0.5 for a, b in itertools.pairwise(boxes))


def test_large_grids_are_enlarged_less(tmp_path):
    for side, expected in ((100, 400), (1500, 3000), (4200, 4200)):
        figures.save_png(np.zeros((side, 8, 1), np.uint8), tmp_path / "grid.png")
        with Image.open(tmp_path / "grid.png") as image:
            assert image.size[1] == expected


def test_what_the_font_lacks_warns_nobody(tmp_path, recwarn):
    figure = Figure()
    figure.text(0.5, 0.5, "猫")
    rendered(figure, tmp_path)
    assert not recwarn.list
