"""Gradient descent, Newton and least squares against theory and scipy (lecture 5.3–5.9)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from dlcore.optim import (
    Found,
    backtracking,
    damped_newton,
    gauss_newton,
    gradient_descent,
    levenberg_marquardt,
    minimize,
    momentum,
    nesterov,
    newton,
    newton_cg,
    run,
    strong_wolfe,
    surfaces,
)

QUADRATIC = surfaces.quadratic((0.5, 3.0, 10.0), seed=1)
START = jnp.asarray([1.0, -2.0, 3.0])


@pytest.mark.slow
def test_newton_solves_a_quadratic_in_one_step():
    for method in (newton(), damped_newton(), newton_cg(forcing=1e-6)):
        found = minimize(method, QUADRATIC.f, START, steps=1)
        np.testing.assert_allclose(found.x, 0, atol=1e-4)


def test_descent_converges_below_two_over_the_largest_curvature_and_not_above():
    rates = jnp.asarray([0.5, 0.9, 0.999, 1.001, 1.1]) * 2 / 10
    values = jax.jit(
        jax.vmap(lambda rate: run(gradient_descent(rate), QUADRATIC.f, START, steps=400, gradient_tolerance=0.0).value)
    )(rates)
    start = float(QUADRATIC.f(START))
    assert (values[:3] < start).all() and (values[:2] < 1e-6).all() and (values[3:] > start).all()


def test_momentum_and_nesterov_are_the_rules_written_out():
    f, rate, alpha = surfaces.rosenbrock().f, 1e-3, 0.9
    gradient = jax.jit(jax.grad(f))
    x0 = np.array([-1.2, 1.0], np.float32)
    for method, ahead in ((momentum(rate, alpha), 0.0), (nesterov(rate, alpha), alpha)):
        points, velocity = [x0], np.zeros(2, np.float32)
        for _ in range(10):
            velocity = alpha * velocity - rate * np.asarray(gradient(points[-1] + ahead * velocity))
            points.append(points[-1] + velocity)
        found = minimize(method, f, x0, steps=10)
        np.testing.assert_allclose(found.trace.points, points, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("x0", [(-1.2, 1.0), (2.0, -1.0)])
def test_line_searches_keep_their_promises(x0):
    f, x, c1, c2 = surfaces.rosenbrock().f, jnp.asarray(x0), 1e-4, 0.3
    value, gradient = jax.value_and_grad(f)(x)
    slope = -float(gradient @ gradient)
    for search, curved in ((backtracking(c1=c1), False), (strong_wolfe(c1=c1, c2=c2), True)):
        t = search(f, x, value, gradient, -gradient).step
        assert float(t) > 0 and float(f(x - t * gradient)) <= float(value) + c1 * float(t) * slope
        if curved:
            assert abs(float(jax.grad(f)(x - t * gradient) @ -gradient)) <= c2 * abs(slope)


def test_line_search_avoids_where_f_is_not_finite_and_gives_up_uphill():
    f, x = (lambda x: -jnp.log(1 - x).sum() - x.sum()), jnp.zeros(1) + 0.5
    value, gradient = jax.value_and_grad(f)(x)
    for search in (backtracking(), strong_wolfe()):
        assert np.isfinite(f(x + search(f, x, value, gradient, -2 * gradient).step * -2 * gradient))
    assert float(backtracking(most=5)(f, x, value, gradient, gradient).step) == 0
    for bad in ({"shrink": 1.0}, {"c1": 0.0}, {"first": -1.0}):
        with pytest.raises(ValueError, match="backtracking"):
            backtracking(**bad)
    with pytest.raises(ValueError, match="c1 < c2"):
        strong_wolfe(c1=0.9, c2=0.1)


def test_damped_newton_leaves_the_saddle_that_newton_goes_to():
    saddle = surfaces.saddle()
    x0 = jnp.asarray([0.5, 0.1])
    np.testing.assert_allclose(minimize(newton(), saddle.f, x0, steps=20).x, 0, atol=1e-5)
    found = minimize(damped_newton(), saddle.f, x0, steps=20)
    np.testing.assert_allclose(found.x, saddle.minima[1], atol=1e-4)


def test_damped_newton_divides_by_the_absolute_curvatures():
    H, x = np.array([[1.0, 2.0], [2.0, -3.0]]), np.array([0.5, -1.5])
    whole_step = lambda f, x, value, gradient, direction: Found(jnp.float32(1), jnp.int32(0))  # noqa: E731
    found = minimize(damped_newton(search=whole_step), lambda x: 0.5 * x @ H @ x, jnp.asarray(x), steps=1)
    values, vectors = np.linalg.eigh(H)
    assert values[0] < 0 < values[1]
    step = vectors @ ((vectors.T @ H @ x) / np.abs(values))
    np.testing.assert_allclose(found.x, x - step, rtol=1e-5)


@pytest.mark.parametrize("c2", [0.4, 0.1, 0.02])
def test_the_slope_at_the_end_of_a_line_search_is_below_its_share(c2):
    """Over many starts, so that some end just below the share that is asked for."""
    f, search = surfaces.rosenbrock().f, strong_wolfe(c2=c2)

    def ratio(x):
        value, gradient = jax.value_and_grad(f)(x)
        found = search(f, x, value, gradient, -gradient)
        return jnp.abs(jax.grad(f)(x - found.step * gradient) @ gradient) / (gradient @ gradient)

    ratios = jax.jit(jax.vmap(ratio))(jax.random.uniform(jax.random.key(0), (500, 2), minval=-2, maxval=2))
    assert (ratios <= c2 * 1.001).all() and (ratios > 0.8 * c2).any()


def test_singular_hessian_diverges_instead_of_nan():
    found = minimize(newton(), lambda x: (x[0] + x[1]) ** 4, jnp.ones(2), steps=3)
    assert found.reason == "diverged" and np.isfinite(found.x).all()


def test_newton_cg_on_rosenbrock_needs_about_what_scipy_does():
    f = surfaces.rosenbrock(5).f
    x0 = np.array([1.3, 0.7, 0.8, 1.9, 1.2])
    theirs = scipy.optimize.minimize(
        scipy.optimize.rosen,
        x0,
        jac=scipy.optimize.rosen_der,
        hessp=scipy.optimize.rosen_hess_prod,
        method="Newton-CG",
        options={"xtol": 1e-9},
    )
    with jax.enable_x64(True):
        found = minimize(newton_cg(), f, jnp.asarray(x0), steps=200)
    np.testing.assert_allclose(found.x, theirs.x, atol=1e-4)
    assert found.reason == "gradient" and found.evaluations <= 2 * (theirs.nfev + theirs.njev + theirs.nhev)


def exponential(x, t, y):
    return x[0] * jnp.exp(x[1] * t) - y


@pytest.mark.slow
def test_least_squares_methods_fit_a_curve_as_scipy_does():
    t = np.linspace(0, 1, 8)
    y = 2.0 * np.exp(-1.5 * t) + 0.05 * np.cos(9 * t)
    theirs = scipy.optimize.least_squares(lambda x: x[0] * np.exp(x[1] * t) - y, [1.0, 0.0]).x
    for method in (gauss_newton(), levenberg_marquardt()):
        found = minimize(method, lambda x: exponential(x, t, y), jnp.asarray([1.0, 0.0]), steps=30)
        np.testing.assert_allclose(found.x, theirs, atol=1e-4)
        r = exponential(found.x, t, y)
        assert found.value == pytest.approx(0.5 * float(r @ r), rel=1e-4)


def test_gauss_newton_is_exact_for_linear_residuals_of_any_rank():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(6, 3)).astype(np.float32)
    A[:, 2] = A[:, 0] + A[:, 1]
    b = rng.normal(size=6).astype(np.float32)
    found = minimize(gauss_newton(), lambda x: A @ x - b, jnp.zeros(3), steps=1)
    np.testing.assert_allclose(found.x, np.linalg.lstsq(A.astype(float), b, rcond=1e-5)[0], atol=1e-4)
