"""The synthetic densities against what their definitions imply in closed form."""

import numpy as np
import pytest
from scipy import integrate, stats

from dlcore.data import DataError, load
from dlcore.data.toy import RECIPE, SETS, draw

FIRST = {
    "two_moons": ([2.917041, -0.207991], 1),
    "rings": ([-0.149488, -2.039890], 1),
    "pinwheel": ([1.085953, -1.014067], 4),
    "eight_gaussians": ([-2.776489, -0.005072], 4),
    "checkerboard": ([2.443651, -1.209988], 3),
    "spirals": ([-1.119952, -2.369752], 1),
}


def sample(name, size=20_000):
    rows = draw(name, size, np.random.default_rng(5))
    return rows["point"].astype(np.float64), rows["label"]


@pytest.mark.parametrize("name", SETS)
def test_components_are_equally_likely(name):
    _, label = sample(name)
    assert stats.chisquare(np.bincount(label)).pvalue > 1e-3


def test_eight_gaussians():
    points, label = sample("eight_gaussians")
    for k in range(8):
        own = points[label == k]
        centre = 2.8 * np.array([np.cos(np.pi * k / 4), np.sin(np.pi * k / 4)])
        np.testing.assert_allclose(own.mean(0), centre, atol=5 * 0.2 / np.sqrt(len(own)))
        np.testing.assert_allclose(np.cov(own.T), 0.04 * np.eye(2), atol=5e-3)


def test_rings():
    points, label = sample("rings")
    assert stats.kstest((np.hypot(*points.T) - 1 - label) / 0.1, "norm").pvalue > 1e-3
    assert stats.kstest(np.arctan2(*points.T), "uniform", (-np.pi, 2 * np.pi)).pvalue > 1e-3


def test_checkerboard_is_uniform_on_alternate_squares():
    points, label = sample("checkerboard")
    assert np.abs(points).max() <= 4
    cells = np.floor((points + 4) / 2).astype(int)
    assert ((cells.sum(1) % 2) == 0).all(), "the squares of one colour"
    assert len({(int(k), *cell) for k, cell in zip(label, cells.tolist(), strict=True)}) == 8
    inside = (points + 4) / 2 % 1
    assert min(stats.kstest(inside[:, 0], "uniform").pvalue, stats.kstest(inside[:, 1], "uniform").pvalue) > 1e-3


def test_moons_are_half_circles_of_radius_two():
    points, label = sample("two_moons")
    centre = np.where(label[:, None], [1.0, 0.5], [-1.0, -0.5])
    radius = np.hypot(*(points - centre).T)
    np.testing.assert_allclose(radius.mean(), 2 + 0.15**2 / 4, atol=0.006)
    np.testing.assert_allclose(radius.std(), 0.15, rtol=0.03)


def test_spirals_against_integrals_over_the_curve():
    points, label = sample("spirals", 200_000)
    own = points * np.where(label[:, None] == 0, 1, -1)
    for axis, wave in enumerate((np.cos, np.sin)):
        mean = integrate.quad(lambda t, wave=wave: 3.5 * t * wave(3 * np.pi * t) * 2 * t, 0, 1)[0]
        np.testing.assert_allclose(own[label == 0, axis].mean(), mean, atol=0.03)
        np.testing.assert_allclose(own[label == 1, axis].mean(), mean, atol=0.03)
    np.testing.assert_allclose((points**2).sum(1).mean(), 3.5**2 / 2 + 2 * 0.1**2, rtol=0.01)


def test_pinwheel_arms_are_turned_copies():
    points, label = sample("pinwheel", 50_000)
    turned = []
    for k in range(5):
        c, s = np.cos(2 * np.pi * k / 5), np.sin(2 * np.pi * k / 5)
        turned.append(points[label == k] @ np.array([[c, -s], [s, c]]))
    for arm in turned[1:]:
        np.testing.assert_allclose(arm.mean(0), turned[0].mean(0), atol=0.04)
        np.testing.assert_allclose(np.cov(arm.T), np.cov(turned[0].T), atol=0.04)


@pytest.mark.parametrize("name", SETS)
def test_spec(name):
    data = load(name)
    points = data.train.arrays["point"].astype(np.float64)
    np.testing.assert_allclose(data.spec.mean, points.mean(0), atol=1e-12)
    np.testing.assert_allclose(data.spec.std, points.std(0), rtol=1e-12)
    assert data.spec.levels is None and data.spec.shape == (2,) and data.spec.sizes == (10_000, 2_000, 2_000)
    fewer = load(name, validation=7)
    assert fewer.spec.sizes == (10_000, 7, 2_000) and fewer.validation.size == 7
    np.testing.assert_array_equal(fewer.train.arrays["point"], data.train.arrays["point"])
    with pytest.raises(DataError, match=f"{name}: validation=-1"):
        load(name, validation=-1)


@pytest.mark.parametrize("name", SETS)
def test_what_is_drawn_changes_with_the_number_of_the_recipe_only(name):
    """The first point and its label of recipe 1; raise `RECIPE`, and write down the new ones, when `draw` changes."""
    assert RECIPE == 1
    first = {k: v[0] for k, v in load(name).train.arrays.items()}
    point, label = FIRST[name]
    np.testing.assert_allclose(first["point"], point, atol=1e-5)
    assert first["label"] == label
