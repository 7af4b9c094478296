"""Figures of segmentation and transfer are drawn from plain arrays."""

import io

import numpy as np

from dlcore.report import segmentation, transfer

RNG = np.random.default_rng(0)
NAMES = ("ground", "leaf", "stone")


def drawn(figure):
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def test_masks_have_their_classes_colours_and_errors_are_red_where_something_counts():
    masks = np.array([[[0, 1, 255], [2, 2, 0]]])
    painted = segmentation.painted(masks, 3)
    table = segmentation.colours(3)
    assert painted.shape == (1, 2, 3, 3) and len(np.unique(table, axis=0)) == 3
    np.testing.assert_array_equal(painted[0, 1, 0], table[2])
    np.testing.assert_array_equal(painted[0, 0, 2], segmentation.PAPER)
    wrong = segmentation.errors(np.zeros((1, 2, 3, 1)), masks, np.zeros_like(masks))
    red = (wrong == segmentation.WRONG).all(-1)[0]
    assert red.tolist() == [[False, True, False], [True, True, False]]
    for classes in (11, 21, 40):
        assert len(np.unique(segmentation.colours(classes), axis=0)) == classes


def test_examples_are_four_lines_with_a_legend():
    images, masks = RNG.random((3, 6, 9, 1)), RNG.integers(0, 3, (3, 6, 9))
    figure = drawn(segmentation.examples(images, masks, masks, NAMES, np.array([1.0, 0.5, np.nan]), "title"))
    assert len(figure.axes) == 12 and len(figure.legends[0].get_texts()) == 3


def test_bars_leave_out_what_never_occurs():
    figure = drawn(segmentation.by_class(np.array([0.9, np.nan, 0.1]), NAMES, 0.5))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["ground", "stone"]


def test_curves_have_a_line_per_method():
    found = {"scratch": RNG.random((3, 5)), "probe": RNG.random((3, 5)), "own": RNG.random((3, 5))}
    figure = drawn(transfer.curves((2, 10, 50), found, 0.2))
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"from scratch", "linear probe", "own", "chance"}
