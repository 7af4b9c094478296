"""Lines through latent space: great circles keep the norm, and rows are what the decoder gives for them."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from dlcore.report import density, diffusion, gan, images, latent


def test_great_circles_start_and_end_at_the_codes_and_keep_the_norm():
    rng = np.random.default_rng(0)
    a, b = np.linalg.qr(rng.normal(size=(7, 2)))[0].T * 3
    line = latent.circle(a, b, 9)
    np.testing.assert_allclose(line[[0, -1]], [a, b], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(line, axis=1), 3, rtol=1e-12)
    np.testing.assert_allclose(line[4], (a + b) / np.sqrt(2), rtol=1e-12)


def test_rows_of_circles_are_between_neighbouring_pairs():
    codes = np.eye(4)
    drawn = latent.circles(lambda z: z[:, :, None, None], codes, lines=2, steps=3)
    (first, second), title = drawn.arguments[0], drawn.arguments[1]
    assert (first[0], second[0]) == ("", "") and "great circle" in title
    np.testing.assert_allclose(second[1][:, :, 0, 0], latent.circle(codes[2], codes[3], 3))


def test_temperatures_are_told_to_the_sampler():
    drawn = latent.temperatures(lambda t, count: np.full((count, 2, 2, 1), t), "title")
    assert [label for label, _ in drawn.arguments[0]] == ["T = 0.5", "T = 0.7", "T = 0.85", "T = 1.0"]
    assert all((images == float(label[4:])).all() and len(images) == 12 for label, images in drawn.arguments[0])


def test_the_density_in_the_plane_is_evaluated_at_the_centres_of_cells():
    points = np.array([[0.0, 0.0], [1.0, 2.0]])
    drawn = density.in_the_plane(lambda x: -0.5 * np.square(x).sum(-1), points, points, "normal", size=10)
    low, high, values, *_ = drawn.arguments
    cells = density.grid(low, high, 10).reshape(10, 10, 2)
    assert values[7, 2] == pytest.approx(np.exp(-0.5 * np.square(cells[7, 2]).sum()), rel=1e-6)


def test_a_gallery_of_a_gan_has_a_circle_for_every_pair():
    ends = np.eye(4).reshape(2, 2, 1, 4)
    samples = np.zeros((12, 2, 2, 1))
    drawn = gan.gallery(samples, samples[:3], lambda z: np.tile(z[:, :2, None, None], (1, 1, 2, 1)), ends)
    lines = [images for _, images in drawn["interpolation"].arguments[0]]
    assert len(lines) == 2 and lines[0].shape == (10, 2, 2, 1)
    np.testing.assert_allclose(lines[0][:, 0, 0, 0], np.cos(np.linspace(0, np.pi / 2, 10)), atol=1e-12)
    assert [len(images) for _, images in drawn["neighbours"].arguments[0]] == [3, 3]


def test_scores_over_the_plane_have_the_lowest_row_first():
    grid = gan.over_plane(lambda x: x[:, 1], np.zeros((2, 2)), np.zeros((2, 2)), "D", side=2.0).arguments[2]
    np.testing.assert_allclose(grid[:, 7], np.linspace(-2, 2, 80), rtol=1e-6)


def test_denoising_ends_at_the_samples_and_counts_times_down():
    path = np.arange(15.0).reshape(15, 1, 1, 1, 1) * np.ones((1, 12, 2, 2, 1)) / 15
    drawn = diffusion.from_noise(path, np.arange(15) * 10, "title")
    kept, times = drawn["denoising"].arguments
    assert times[0] == 140 and times[-1] == 0 and len(times) == 8 and kept.shape[1] == 10
    np.testing.assert_allclose(kept[:, 0, 0, 0, 0], (140 - times) / 150)
    np.testing.assert_array_equal(drawn["samples"].arguments[0], path[-1])


def test_completions_stand_under_what_was_given():
    x = np.zeros((2, 2, 2, 1))
    drawn = images.completions(x, x, [x, x])
    assert [label for label, _ in drawn.arguments[0]] == ["image", "given", "completion 1", "completion 2"]


def test_regions_of_classes_are_coloured_and_bounded_and_count_their_points():
    """Two classes left and right of x = 1, known to be so by their probabilities on the grid."""
    low, high = np.array([-2.0, -2.0]), np.array([4.0, 4.0])
    cells = density.grid(low, high, 60)
    right = 1 / (1 + np.exp(-4 * (cells[:, 0] - 1)))
    probabilities = np.stack([1 - right, right], -1).reshape(60, 60, 2)
    points = np.array([[0.0, 0.0], [3.0, 1.0], [2.0, 3.0], [-1.0, 2.0]])
    figure = density.regions(low, high, probabilities, points, np.array([0, 1, 0, 0]), ("left", "right"))
    (axes,) = figure.axes
    assert "75.0% of 4 test points in their own" in axes.get_title()
    colours = axes.get_images()[0].get_array()
    assert colours.shape == (60, 60, 3) and (colours[:, :25] == colours[:1, :25]).all(), "the same in every row"
    np.testing.assert_array_less(colours[30, 0].min(), colours[30, 29].min(), "deeper where it is surer")
    bounds = np.concatenate(
        [path.vertices for c in axes.collections for path in c.get_paths() if len(path.vertices) > 50]
    )
    assert np.abs(bounds[:, 0] - 1).max() < 0.1
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["left", "right"]
    offsets = [c.get_offsets() for c in axes.collections if isinstance(c, PathCollection)]
    assert [len(of_class) for of_class in offsets] == [3, 1]
