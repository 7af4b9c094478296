"""Figures of components and of retrieval draw what they are given."""

import numpy as np
import pytest

from dlcore.report import components, retrieval


def images(*shape):
    return np.random.default_rng(0).uniform(size=shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_components_are_drawn_beside_the_mean(channels):
    figure = components.directions(images(4, 4, channels), images(9, 4, 4, channels) - 0.5, np.full(9, 0.1))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["mean", "1: 10.0%", "2: 10.0%"] and len(titles) == 16


def test_how_many_components_explain_how_much():
    figure = components.explained(np.array([0.5, 0.35, 0.1, 0.05, 0.0]))
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["80%: 2 components", "90%: 3 components", "95%: 3 components"]


def test_errors_and_angles():
    figure = components.errors((2, 4), {"PCA": [0.2, 0.1]}, {"linear": (4, 0.11)})
    assert [line.get_label() for line in figure.axes[0].lines] == ["PCA", "linear"]
    assert len(components.angles(np.array([1e-9, 0.1])).axes[0].patches) == 2


def test_neighbours_are_framed_by_whether_they_are_right():
    right = np.array([[True, False, True]])
    figure = retrieval.grid(images(1, 4, 4, 1), images(1, 3, 4, 4, 1), right, np.array([[0, 1, 2]]), ["$one"])
    assert [axes.get_title() for axes in figure.axes] == ["query", "0", "1", "2"]
    colours = [axes.spines["top"].get_edgecolor() for axes in figure.axes[1:]]
    assert colours[0] == colours[2] != colours[1]


def test_curves_of_methods():
    curve = (np.array([np.nan, 0.9, 0.1]), np.array([0, 0.5, 1.0]))
    figure = retrieval.precision_recall({"trained": curve, "pca_sign": curve})
    assert [line.get_label() for line in figure.axes[0].lines] == ["trained", "pca sign"]
    figure = retrieval.lengths((8, 16), {"itq": [0.1, 0.2]}, (12, 0.3), 100)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["8", "12", "16"]
