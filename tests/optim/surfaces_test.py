"""Test surfaces and their minima, convexity and critical points (lecture 4.1–4.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from dlcore.optim import critical_point, jensen_gaps, least_curvatures, looks_convex, surfaces

NAMED = {surface.name: surface for surface in surfaces.named()}


def samples(surface, count=64, seed=0):
    box = np.random.default_rng(seed).uniform(surface.low, surface.high, (count, len(surface.low)))
    return jnp.asarray(box, jnp.float32)


@pytest.mark.sampled
@pytest.mark.parametrize("name", NAMED)
def test_minima_are_where_they_are_said_to_be_and_nothing_is_lower(name):
    surface = NAMED[name]
    values = np.asarray(jax.jit(jax.vmap(surface.f))(samples(surface, 4096)))
    assert values.min() >= surface.value - 1e-5
    near = np.asarray(jax.vmap(surface.f)(jnp.asarray(surface.minima, jnp.float32)))
    np.testing.assert_allclose(near, surface.value, atol=1e-4)


@pytest.mark.slow
def test_gradients_vanish_at_minima_and_curvatures_do_not():
    for surface in NAMED.values():
        if surface.name == "Ackley":
            continue
        for x in np.concatenate([surface.minima, surface.local]):
            assert critical_point(surface.f, jnp.asarray(x, jnp.float32), tolerance=1e-4) == "minimum", surface.name
    assert np.isfinite(jax.grad(surfaces.ackley().f)(jnp.zeros(2))).all()


def test_values_against_scipy_and_by_hand():
    x = np.array([0.3, -1.2, 0.7])
    assert float(surfaces.rosenbrock(3).f(jnp.asarray(x))) == pytest.approx(scipy.optimize.rosen(x), rel=1e-5)
    r = surfaces.rosenbrock_residuals(jnp.asarray(x))
    assert 0.5 * float(r @ r) == pytest.approx(scipy.optimize.rosen(x), rel=1e-5)
    assert float(surfaces.himmelblau().f(jnp.zeros(2))) == pytest.approx(170)
    assert float(surfaces.beale().f(jnp.zeros(2))) == pytest.approx(1.5**2 + 2.25**2 + 2.625**2)
    assert float(surfaces.rastrigin(3).f(jnp.full(3, 0.5))) == pytest.approx(3 * 20.25, rel=1e-5)
    spectrum = (1.0, 3.0, 7.0)
    H = jax.hessian(surfaces.quadratic(spectrum).f)(jnp.ones(3))
    np.testing.assert_allclose(np.linalg.eigvalsh(H), spectrum, rtol=1e-4)
    with pytest.raises(ValueError, match="spectrum"):
        surfaces.quadratic(())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_convexity_is_as_stated(name):
    surface = NAMED[name]
    assert looks_convex(surface.f, samples(surface)) == surface.convex


@pytest.mark.slow
def test_jensen_gaps_and_curvatures_by_hand():
    x, y, t = jnp.asarray([[1.0], [2.0]]), jnp.asarray([[-1.0], [4.0]]), jnp.asarray([0.5, 0.25])
    # t(1 − t)(x − y)² for the square.
    np.testing.assert_allclose(jensen_gaps(lambda x: x @ x, x, y, t), [1.0, 0.75], rtol=1e-6)
    np.testing.assert_allclose(least_curvatures(lambda x: x[0] ** 4, x), [12.0, 48.0], rtol=1e-6)
    # Convex everywhere but in a small ring: values alone may miss it, curvature need not.
    assert not looks_convex(lambda x: -x @ x, x)
    with pytest.raises(ValueError, match="not finite at 1 of 2"):
        looks_convex(lambda x: jnp.log(x[0] - 1.5), x)


def test_kinds_of_critical_points():
    zero = jnp.zeros(2)
    assert critical_point(lambda x: x @ x, zero) == "minimum"
    assert critical_point(lambda x: -x @ x, zero) == "maximum"
    assert critical_point(surfaces.saddle().f, zero) == "saddle"
    assert critical_point(lambda x: x[0] ** 2 + x[1] ** 4, zero) == "degenerate"
    assert critical_point(lambda x: x @ x, zero + 1) == "not critical"
