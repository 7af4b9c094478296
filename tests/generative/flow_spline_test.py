"""Rational-quadratic splines against their formula, entry by entry, and at their edges (lecture 28.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative.flow import Knots, SplineCoupling, knots, rational_quadratic, spline, spline_inverse
from dlcore.networks import MLPConditioner

BOUND, BINS = 3.0, 5


def drawn(size, shape=(), dtype=jnp.float64):
    return size * jax.random.normal(jax.random.key(0), (*shape, 3 * BINS - 1), dtype)


def by_hand(x, at):
    """Eq. 4 and 5 of Durkan et al. 2019 for one number, in plain Python."""
    xs, zs, slopes = (np.asarray(part, np.float64) for part in at)
    if not xs[0] < x < xs[-1]:
        return x, 0.0
    k = max(i for i in range(len(xs) - 1) if xs[i] <= x)
    width, height, left, right = xs[k + 1] - xs[k], zs[k + 1] - zs[k], slopes[k], slopes[k + 1]
    s, t = height / width, (x - xs[k]) / width
    below = s + (left + right - 2 * s) * t * (1 - t)
    z = zs[k] + height * (s * t**2 + left * t * (1 - t)) / below
    return z, np.log(s**2 * (right * t**2 + 2 * s * t * (1 - t) + left * (1 - t) ** 2) / below**2)


@pytest.mark.slow
def test_a_spline_is_the_formula_and_its_slope_is_that_of_autodiff():
    with jax.enable_x64(True):
        at = knots(drawn(1.5), BOUND)
        x = jnp.linspace(-4.0, 4.0, 81)
        wide = Knots(*(jnp.broadcast_to(part, (81, BINS + 1)) for part in at))
        z, log_slope = jax.jit(spline)(x, wide)
        np.testing.assert_allclose(np.stack([z, log_slope], 1), [by_hand(float(v), at) for v in x], atol=1e-12)
        slopes = jax.jit(jax.grad(lambda x: spline(x, wide)[0].sum()))(x)
        np.testing.assert_allclose(log_slope, jnp.log(slopes), atol=1e-10)
        back, negative = jax.jit(spline_inverse)(z, wide)
        np.testing.assert_allclose(back, x, atol=1e-12)
        np.testing.assert_allclose(negative, -log_slope, atol=1e-10)


@pytest.mark.slow
def test_a_spline_passes_its_knots_with_their_slopes_which_at_the_ends_is_1():
    with jax.enable_x64(True):
        at = knots(drawn(1.5), BOUND)
        assert float(at.x[0]) == float(at.z[0]) == -BOUND and float(at.x[-1]) == float(at.z[-1]) == BOUND
        assert (jnp.diff(at.x) > 0).all() and (jnp.diff(at.z) > 0).all() and at.slope[0] == at.slope[-1] == 1
        inner = BINS - 1
        wide = Knots(*(jnp.broadcast_to(part, (inner, BINS + 1)) for part in at))
        z, log_slope = spline(at.x[1:-1], wide)
        np.testing.assert_allclose(z, at.z[1:-1], atol=1e-12)
        np.testing.assert_allclose(jnp.exp(log_slope), at.slope[1:-1], rtol=1e-10)


@pytest.mark.slow
def test_raw_numbers_of_0_are_the_identity_and_the_tails_are_it_to_the_bit():
    transform = rational_quadratic(BINS, BOUND)
    x = jnp.asarray([-1e30, -7.0, -3.0, -1.1, 0.0, 0.4, 2.9, 3.0, 1e30])
    z, log_slope = transform.forward(x, jnp.zeros((9, transform.numbers)))
    np.testing.assert_allclose(z, x, atol=1e-6)
    np.testing.assert_allclose(log_slope, 0, atol=1e-6)
    moved, _ = transform.forward(x, drawn(1.0, (9,), jnp.float32))
    outside = np.abs(x) >= BOUND
    np.testing.assert_array_equal(moved[outside], x[outside])
    assert (moved != x)[~outside].all()


@pytest.mark.slow
def test_the_round_trip_holds_in_float32_at_edges_between_them_and_far_out():
    raw = drawn(1.0, (40,), jnp.float32)
    at = knots(raw, BOUND)
    near = jnp.concatenate([at.x, jnp.nextafter(at.x, jnp.inf), jnp.nextafter(at.x, -jnp.inf)], axis=-1)
    far = jnp.broadcast_to(jnp.asarray([-1e4, -5.0, 0.0, 5.0, 1e4]), (40, 5))
    x = jnp.concatenate([near, far, 3 * jax.random.normal(jax.random.key(3), (40, 50))], axis=-1)
    wide = Knots(*(jnp.broadcast_to(part[:, None], (*x.shape, BINS + 1)) for part in at))
    z, forward = jax.jit(spline)(x, wide)
    back, inverse = jax.jit(spline_inverse)(z, wide)
    assert float(jnp.abs(back - x).max()) <= 1e-5
    np.testing.assert_allclose(inverse, -forward, atol=2e-4)


@pytest.mark.slow
def test_gradients_are_finite_at_every_edge_and_outside():
    raw = drawn(1.0, (1,), jnp.float32)
    at = knots(raw, BOUND)
    x = jnp.concatenate([at.x[0], jnp.asarray([-10.0, 10.0])])
    raws = jnp.broadcast_to(raw, (len(x), raw.shape[1]))
    for way in rational_quadratic(BINS, BOUND)[1:]:
        grads = jax.jit(jax.grad(lambda x, raw, way=way: sum(p.sum() for p in way(x, raw)), (0, 1)))(x, raws)
        assert all(bool(jnp.isfinite(g).all()) for g in grads)


@pytest.mark.slow
def test_a_spline_coupling_starts_as_the_identity():
    bijector = SplineCoupling(MLPConditioner((4,), 46), bins=8)
    x = jax.random.normal(jax.random.key(0), (5, 4))
    z, log_det = bijector.forward(bijector.init(jax.random.key(1), x), x)
    np.testing.assert_allclose(z, x, atol=1e-6)
    np.testing.assert_allclose(log_det, 0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: knots(jnp.zeros((2, 6)), 1.0), "3K − 1"),
        (lambda: rational_quadratic(1), "at least 2"),
        (lambda: knots(jnp.zeros((2, 5)), 1.0, smallest=1.0), "smallest must lie"),
        (lambda: rational_quadratic(4, 0.0), "bound must be positive"),
        (lambda: spline(jnp.zeros(3), knots(jnp.zeros((2, 5)), 1.0)), "per entry"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
