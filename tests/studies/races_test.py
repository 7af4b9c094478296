"""Races on surfaces, and the density of a Hessian's eigenvalues, against what is known in closed form (lecture 4–5)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.optim import Density, gradient_descent, surfaces
from dlcore.studies import RACERS, asinh_density, descents, heights, hessian_spectrum, race


def test_descent_on_a_quadratic_shrinks_every_coordinate_by_its_own_factor():
    surface, start = surfaces.quadratic((1.0, 10.0), seed=3), np.array([1.0, -2.0])
    hessian = np.asarray(jax.hessian(surface.f)(jnp.zeros(2)))
    ways = descents(surface, start, [0.05, 0.15], 6)
    assert ways.shape == (2, 7, 2)
    for way, rate in zip(ways, (0.05, 0.15), strict=True):
        expected = [np.linalg.matrix_power(np.eye(2) - rate * hessian, k) @ start for k in range(7)]
        np.testing.assert_allclose(way, expected, rtol=1e-4, atol=1e-5)


def test_heights_are_the_surface_with_the_lowest_row_first():
    surface = surfaces.himmelblau()
    values = heights(surface, 5)
    x, y = (np.linspace(a, b, 5) for a, b in zip(surface.low, surface.high, strict=True))
    for row, column in ((0, 3), (4, 1)):
        expected = surface.f(jnp.array([x[column], y[row]], jnp.float32))
        np.testing.assert_allclose(values[row, column], expected, rtol=1e-5)


@pytest.mark.slow
def test_a_race_keeps_every_way_to_its_last_step():
    bowl = surfaces.quadratic((1.0, 2.0), seed=0)
    tracks = {"fast": (bowl, 0.6), "slow": (bowl, 1e-3)}
    found = race(30, {"descent": (gradient_descent, 1.0), "Newton": RACERS["damped Newton"]}, tracks)
    assert list(found) == ["fast", "slow"] and list(found["fast"]) == ["descent", "Newton"]
    fast, slow = found["fast"]["descent"], found["slow"]["descent"]
    assert len(slow.values) == 31 and len(fast.values) < 31, "the fast one stops where the gradient vanishes"
    np.testing.assert_allclose(slow.points[0], bowl.start, rtol=1e-6)
    np.testing.assert_allclose(slow.values, [float(bowl.f(jnp.asarray(x))) for x in slow.points], rtol=1e-4)
    assert len(found["slow"]["Newton"].values) == 2, "a quadratic's minimum is one step away"


def test_the_density_of_eigenvalues_integrates_to_one_with_the_mean_of_the_eigenvalues():
    eigenvalues = jnp.array([-0.5, 0.01, 0.2, 1.0, 3.0])
    found = hessian_spectrum(
        lambda p, scale: 0.5 * scale * (eigenvalues * p["x"] ** 2).sum(),
        {"x": jnp.ones(5)},
        2.0,
        key=jax.random.key(0),
        steps=5,
        probes=40,
    )
    np.testing.assert_allclose(found.extremes, (-1.0, 6.0), rtol=1e-3)
    np.testing.assert_allclose(np.trapezoid(found.density, found.at), 1.0, atol=0.01)
    assert found.unit == 3e-3 * max(map(abs, found.extremes))


def test_smoothing_on_the_scale_of_asinh_keeps_the_mass_of_a_point():
    at, density = asinh_density(Density(np.array([[2.0]]), np.array([[1.0]])), (-1.0, 4.0), 0.1)
    np.testing.assert_allclose(np.trapezoid(density, at), 1.0, atol=1e-3)
    middle = np.interp(0.5, np.cumsum(density[1:] * np.diff(at)), at[1:])
    np.testing.assert_allclose(middle, 2.0, rtol=0.01)
