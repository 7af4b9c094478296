"""Traced settings, shapes, dtypes, and points that are not finite, over all of the optimisers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.optim import (
    OptimizerConfig,
    apply_masks,
    backtracking,
    cma,
    genetic,
    gradient_descent,
    grid,
    group_threshold,
    inner,
    jensen_gaps,
    make_optimizer,
    minimize,
    norm,
    proximal,
    random_search,
    run,
    schedules,
    select,
    soft_threshold,
    solve_qr,
    solve_ridge,
    solve_svd,
    stochastic_descent,
    strong_wolfe,
    surfaces,
    transforms,
)
from dlcore.studies import approximate, best_start, fit_degrees, fit_ridge

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
ORTHOGONAL = np.concatenate([2 * np.eye(3), np.zeros((2, 3))])
"""All its singular values are equal."""


@pytest.mark.parametrize("solve", [solve_qr, solve_svd, lambda a, b: solve_ridge(a, b, 0.7)])
def test_several_targets_are_solved_one_by_one(solve):
    both = solve(jnp.asarray(A), jnp.asarray(B))
    assert both.shape == (3, 2)
    for i in range(2):
        np.testing.assert_allclose(both[:, i], solve(jnp.asarray(A), jnp.asarray(B[:, i])), rtol=1e-5)
    assert solve(jnp.asarray(A), jnp.asarray(B[:, :1])).shape == (3, 1)
    # Integers are numbers too.
    whole = np.arange(7) * 2
    np.testing.assert_allclose(
        solve(np.round(3 * A).astype(int), whole), solve(np.round(3 * A), 1.0 * whole), rtol=1e-5
    )
    for a, b in ((A, B[:6]), (A, B[:, :, None]), (A[0], B)):
        with pytest.raises((ValueError, TypeError)):
            solve(jnp.asarray(a), jnp.asarray(b))


@pytest.mark.slow
@pytest.mark.parametrize("matrix", [ORTHOGONAL, RNG.normal(size=(5, 3)), np.ones((5, 3)), RNG.normal(size=(2, 3))])
def test_ridge_has_the_derivatives_of_finite_differences(matrix):
    with jax.enable_x64(True):
        b, alpha, step = jnp.asarray(RNG.normal(size=len(matrix))), 0.3, 1e-6
        weights = jnp.asarray([1.0, -2.0, 0.5])
        f = lambda a, b, alpha: solve_ridge(a, b, alpha) @ weights  # noqa: E731
        arguments = (jnp.asarray(matrix), b, jnp.asarray(alpha))
        for argument, gradient in enumerate(jax.grad(f, (0, 1, 2))(*arguments)):
            direction = jnp.asarray(RNG.normal(size=arguments[argument].shape))
            moved = [
                [x + s * step * direction if i == argument else x for i, x in enumerate(arguments)] for s in (1, -1)
            ]
            by_difference = (f(*moved[0]) - f(*moved[1])) / (2 * step)
            np.testing.assert_allclose((gradient * direction).sum(), by_difference, rtol=1e-6, atol=1e-9)


def test_the_pseudo_inverse_has_derivatives_at_equal_singular_values():
    with jax.enable_x64(True):
        b, direction, step = jnp.asarray(RNG.normal(size=5)), jnp.asarray(RNG.normal(size=(5, 3))), 1e-6
        a = jnp.asarray(ORTHOGONAL)
        gradient = jax.grad(lambda a: (solve_svd(a, b) ** 2).sum())(a)
        ends = [(solve_svd(a + s * step * direction, b) ** 2).sum() for s in (1, -1)]
        np.testing.assert_allclose((gradient * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-6)


def test_which_singular_values_count_is_relative_to_the_largest():
    diagonal = np.diag([1e-3, 1e-5, 1e-9]) * 1e-3
    found = solve_svd(jnp.asarray(diagonal, jnp.float32), jnp.asarray([1e-6, 1e-8, 1e-12]), rcond=1e-3)
    np.testing.assert_allclose(found, [1, 1, 0], rtol=1e-4)
    large = solve_svd(jnp.asarray(1e12 * diagonal, jnp.float32), jnp.asarray([1e6, 1e4, 1.0]), rcond=1e-3)
    np.testing.assert_allclose(large, [1, 1, 0], rtol=1e-4)


def test_a_penalty_is_searched_under_jit_and_vmap():
    alphas = jnp.asarray([0.1, 1.0, 10.0])
    b = jnp.asarray(B[:, 0])
    found = jax.jit(jax.vmap(lambda alpha: solve_ridge(jnp.asarray(A), b, alpha)))(alphas)
    expected = [np.linalg.solve(A.T @ A + a * np.eye(3), A.T @ B[:, 0]) for a in (0.1, 1.0, 10.0)]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    x = jnp.linspace(-1, 1, 9)
    traced = jax.jit(lambda p: fit_ridge(x, x**2, 3, p))(alphas)
    np.testing.assert_allclose(traced, fit_ridge(x, x**2, 3, alphas), rtol=1e-4, atol=1e-6)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match=r"alpha .* must lie in"):
            solve_ridge(jnp.asarray(A), b, bad)
        with pytest.raises(ValueError, match="penalties"):
            fit_ridge(x, x, 3, jnp.asarray([1.0, bad]))


def bowl(x):
    return (x * x).sum()


START, KEY = jnp.asarray([1.0, -2.0]), jax.random.key(0)
TRACED = {
    "backtracking": lambda t: gradient_descent(search=backtracking(first=t, shrink=0.5 * t, c1=1e-4 * t)),
    "strong_wolfe": lambda t: gradient_descent(search=strong_wolfe(first=t, c1=1e-4 * t, c2=0.9 * t)),
    "cma": lambda t: cma(t, population=6),
    "genetic": lambda t: genetic(t, population=6),
    "random_search": lambda t: random_search((-t, -t), (t, t), block=8),
    "grid": lambda t: grid((-t, -t), (t, t), (3, 3)),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", TRACED)
def test_settings_of_methods_may_be_traced(name):
    value = jax.jit(lambda t: run(TRACED[name](t), bowl, START, steps=3, key=KEY).value)
    for t in (1.0, 0.5):
        assert float(value(t)) == pytest.approx(
            float(run(TRACED[name](t), bowl, START, steps=3, key=KEY).value), rel=1e-4
        )
    assert float(value(1.0)) < 5


def test_settings_of_transformations_may_be_traced():
    params, grads = {"w": jnp.ones(3)}, {"w": jnp.arange(3.0)}

    def after(make):
        def updated(number):
            tx = make(number)
            return tx.update(grads, tx.init(params), params)[0]["w"]

        return updated

    mask = lambda p: jax.tree.map(lambda _: True, p)  # noqa: E731
    for make in (
        lambda t: transforms.adamw(0.1, weight_decay=t),
        lambda t: proximal(optax.sgd(0.1), 0.1, t, mask),
        lambda t: transforms.sgd(schedules.linear(t, 10 * t, t)),
        lambda t: transforms.sgd(schedules.cosine(t, 10 * t, t)),
        lambda t: transforms.sgd(schedules.step_decay(t, 2 * t, t)),
        lambda t: transforms.sgd(schedules.warmup(schedules.inverse_square_root(t, 3 * t), 2 * t)),
    ):
        np.testing.assert_allclose(jax.jit(after(make))(0.5), after(make)(0.5), rtol=1e-5)

    def estimate(decay):
        method = stochastic_descent(optax.sgd(0.1), decay=decay)
        return run(method, lambda x, key: bowl(x), START, steps=3, key=KEY).value

    assert float(jax.jit(estimate)(0.5)) == pytest.approx(float(estimate(0.5)), rel=1e-5)


def test_phases_of_no_steps_are_over_after_step_0():
    for make in (schedules.linear, schedules.cosine):
        np.testing.assert_allclose([float(make(2.0, 0, 0.1)(k)) for k in (1, 2, 99)], 0.2, rtol=1e-6)
        assert float(make(2.0, 0, 0.1)(0)) == 2 and float(make(2.0, 7, 1e-6)(7)) == pytest.approx(2e-6, rel=1e-6)
        assert np.isfinite(jax.grad(lambda rate, make=make: make(rate, 0, 0.1)(3))(1.0))
        with pytest.raises(ValueError, match=r"steps must lie in \[0, ∞\), got -1"):
            make(1.0, -1)
    assert float(schedules.warmup(schedules.constant(2.0), 0)(0)) == 2
    for make in (schedules.step_decay, schedules.inverse_square_root):
        with pytest.raises(ValueError, match=r"must lie in \[1, ∞\), got 0"):
            make(1.0, 0)
    with pytest.raises(ValueError, match="warmup"):
        schedules.warmup(schedules.constant(2.0), -1)


def test_rmsprop_has_a_decay_of_its_own():
    assert OptimizerConfig().rho == 0.9
    grads = [{"w": jnp.asarray([1.0, -3.0])}, {"w": jnp.asarray([-2.0, 0.5])}]
    for rho in (0.9, 0.5):
        mean, total = np.zeros(2), np.zeros(2)
        tx = make_optimizer(OptimizerConfig(name="rmsprop", learning_rate=0.1, rho=rho, b2=0.123, epsilon=1e-12), 5)
        state = tx.init(grads[0])
        for g in grads:
            mean = rho * mean + (1 - rho) * np.square(g["w"])
            total -= 0.1 * np.asarray(g["w"]) / np.sqrt(mean)
            updates, state = tx.update(g, state, g)
            moved = np.asarray(updates["w"])
        np.testing.assert_allclose(moved, -0.1 * np.asarray(grads[1]["w"]) / np.sqrt(mean), rtol=1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize("start", [np.array([3, -2]), 3, np.int32(3), np.array([3, 4], np.uint8), {"a": 3, "b": 1.0}])
@pytest.mark.parametrize("x64", [False, True])
def test_whole_numbers_are_a_start(start, x64):
    with jax.enable_x64(x64):
        found = minimize(
            gradient_descent(0.25), lambda x: sum(bowl(leaf) for leaf in jax.tree.leaves(x)), start, steps=3
        )
        expected = jax.tree.map(lambda x: np.asarray(x, float) / 8, start)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found.x, expected)
        assert all(leaf.dtype == (jnp.float64 if x64 else jnp.float32) for leaf in jax.tree.leaves(found.x))


def holes(x):
    return jnp.where(x[0] > 0.6, jnp.nan, jnp.where(x[0] < 0.3, -jnp.inf, x[0]))


@pytest.mark.parametrize("name", ["grid", "random_search", "cma"])
def test_nan_is_never_the_best(name):
    method = {
        "grid": grid((0.0,), (1.0,), (11,)),
        "random_search": random_search((0.0,), (1.0,), block=32),
        "cma": cma(0.2, population=8),
    }[name]
    found = jax.jit(lambda x0: run(method, holes, x0, steps=4, key=KEY))(jnp.asarray([0.9]))
    assert 0.3 <= float(found.value) <= 0.6 and np.isnan(found.trace.values[0])


def test_nan_loses_every_tournament():
    values = jnp.asarray([jnp.nan, 2.0, -jnp.inf, 5.0])
    drawn = np.asarray(select(KEY, values, 2000, rivals=8))
    assert (drawn == 1).mean() > 0.85


def test_a_fit_that_ends_in_nan_is_not_the_best_start():
    def target(x):
        return jnp.abs(x)

    found = approximate(KEY, target, (2, 3), points=8, starts=3, steps=2)
    assert np.isfinite(found.rms).all()
    errors = np.array([[np.nan, 3.0, np.nan], [2.0, np.inf, np.nan], [1.0, -np.inf, np.nan]])
    np.testing.assert_array_equal(best_start(errors), [2, 0, 0])
    with pytest.raises(ValueError, match=r"gives shape \(1,\) for points of shape \(8,\)"):
        approximate(KEY, lambda x: x[:1], (2,), points=8, steps=1)


def test_shapes_that_would_broadcast_are_refused():
    three, column = jnp.ones(3), jnp.ones((3, 1))
    for make in (
        transforms.sgd,
        transforms.momentum,
        transforms.nesterov,
        transforms.adagrad,
        transforms.rmsprop,
        transforms.adam,
    ):
        tx = make(0.1)
        with pytest.raises(ValueError, match=r"shape \(3, 1\).*\(3,\)"):
            tx.update({"w": column}, tx.init({"w": three}), {"w": three})
    cases = [
        lambda: inner({"w": three}, {"w": column}),
        lambda: inner(jnp.ones((2, 3)), jnp.ones((3, 2))),
        lambda: jensen_gaps(bowl, jnp.ones((4, 2)), jnp.ones((1, 2)), jnp.ones(4)),
        lambda: jensen_gaps(bowl, jnp.ones((4, 2)), jnp.ones((4, 2)), jnp.ones(1)),
        lambda: fit_degrees(three, column, 1),
        lambda: fit_degrees(three, three, 1, weight=column),
        lambda: fit_ridge(three, column, 1, jnp.ones(2)),
        lambda: soft_threshold(three, column),
        lambda: group_threshold(jnp.ones((2, 3)), jnp.ones((2, 1))),
        lambda: apply_masks({"w": three}, {"w": jnp.ones((3, 1), bool)}),
        lambda: surfaces.sphere(2).f(jnp.ones((5, 2))),
    ]
    for call in cases:
        with pytest.raises(ValueError, match="shape"):
            call()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_running_quantities_in_half_precision_do_not_stand_still(dtype):
    params = {"w": jnp.ones(2, dtype)}
    polyak = (transforms.momentum, lambda rate: optax.sgd(rate, 0.9))
    for make, reference in ((transforms.adam, optax.adam), (transforms.rmsprop, optax.rmsprop), polyak):
        tx, other = make(0.01), reference(0.01)

        def step(memories, size, tx=tx, other=other):
            grads = {"w": size * jnp.asarray([1, -1], dtype)}
            updates, ours = tx.update(grads, memories[0], params)
            expected, theirs = other.update({"w": grads["w"].astype(jnp.float32)}, memories[1])
            return (ours, theirs), (updates["w"], expected["w"])

        sizes = jnp.asarray([300.0] + [1.0] * 60, dtype)
        updates, expected = jax.lax.scan(step, (tx.init(params), other.init({"w": jnp.ones(2)})), sizes)[1]
        assert updates.dtype == dtype
        np.testing.assert_allclose(updates.astype(jnp.float32), expected, rtol=1e-2)


def test_inner_products_add_in_single_precision_and_the_norm_has_a_slope_at_zero():
    many = jnp.full(4096, 0.1, jnp.bfloat16)
    exact = 4096 * float(many[0]) ** 2
    assert float(inner(many, many)) == pytest.approx(exact, rel=1e-5)
    assert float(inner(jnp.full(10**7, 0.1), jnp.ones(10**7))) == pytest.approx(1e6, rel=1e-5)
    np.testing.assert_array_equal(jax.grad(norm)(jnp.zeros(3)), 0)
    np.testing.assert_allclose(jax.grad(norm)(jnp.asarray([3.0, 4.0])), [0.6, 0.8], rtol=1e-6)
