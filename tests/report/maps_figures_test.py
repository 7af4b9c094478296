"""Figures of maps show the numbers that they are given."""

import numpy as np

from dlcore.report import maps

RNG = np.random.default_rng(0)


def test_maps_stand_below_their_images_with_a_scale_by_sign():
    images, found = RNG.random((2, 4, 5, 1)), {"one_way": RNG.random((2, 4, 5)), "two_ways": RNG.normal(size=(2, 4, 5))}
    figure = maps.attributions(images, found, ["two_ways"], ["$a", "b"])
    axes = np.array(figure.axes).reshape(3, 2)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["image", "one way", "two ways"]
    np.testing.assert_array_equal(axes[1, 1].images[0].get_array(), found["one_way"][1])
    largest = np.abs(found["two_ways"][0]).max()
    assert axes[2, 0].images[0].get_clim() == (-largest, largest)
    assert [ax.get_title() for ax in axes[0]] == ["$a", "b"]


def test_legends_list_the_best_first():
    deletion = {"a": np.array([1.0, 0.0]), "random": np.array([1.0, 0.8]), "b": np.array([1.0, 0.4])}
    left, right = maps.curves(deletion, deletion).axes
    names = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in (left, right)]
    assert names == [["0.500 a", "0.700 b", "0.900 random"], ["0.900 random", "0.700 b", "0.500 a"]]
    np.testing.assert_array_equal(left.get_lines()[0].get_xydata(), [[0, 1], [1, 0]])


def test_forgetting_begins_at_1():
    (axes,) = maps.forgetting(["head", "body"], {"saliency": np.array([0.5, 0.1]), "random": np.ones(2)}).axes
    np.testing.assert_array_equal(axes.get_lines()[0].get_xydata(), [[0, 1], [1, 0.5], [2, 0.1]])
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["saliency"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["none", "head", "+ body"]


def test_boxes_lie_around_the_pixels_that_are_seen():
    boxes = np.array([[[[1, 3], [0, 2]]]])
    (axes,) = maps.places(RNG.random((1, 1, 6, 5, 3)), boxes, ["channel 7"]).axes
    (box,) = axes.patches
    assert box.get_bbox().extents.tolist() == [-0.5, 0.5, 2.5, 3.5] and axes.get_ylabel() == "channel 7"


def test_channels_of_all_sizes_stand_in_rows():
    figure = maps.channels(
        RNG.random((6, 5, 1)), {"stage_1": RNG.random((3, 4, 4, 1)), "stage_2": RNG.random((2, 2, 2, 1))}
    )
    axes = np.array(figure.axes).reshape(3, 3)
    assert [[len(ax.images) for ax in line] for line in axes] == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert [line[0].get_ylabel() for line in axes] == ["image", "stage_1", "stage_2"]
