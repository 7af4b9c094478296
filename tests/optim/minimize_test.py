"""Every method through one table of problems, and what the contract promises (lecture 4.3.4)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.optim import (
    Method,
    backtracking,
    blocks,
    cma,
    damped_newton,
    gauss_newton,
    genetic,
    gradient_descent,
    grid,
    levenberg_marquardt,
    minimize,
    momentum,
    nesterov,
    newton,
    newton_cg,
    random_search,
    run,
    state,
    strong_wolfe,
    surfaces,
    transformed,
)
from dlcore.optim._minimize import REASONS

PROBLEMS = ("booth", "rosenbrock", "himmelblau")
SURFACES = [getattr(surfaces, name)() for name in PROBLEMS]
BOX = ((-5.0, -5.0), (5.0, 5.0))

METHODS = {
    "gradient_descent": (gradient_descent(3e-3), 4000, {"rosenbrock"}, 1e-2),
    "backtracking": (gradient_descent(search=backtracking()), 3000, set(), 2e-2),
    "strong_wolfe": (gradient_descent(search=strong_wolfe()), 3000, set(), 1e-2),
    "momentum": (momentum(1e-3, 0.9), 3000, set(), 1e-2),
    "nesterov": (nesterov(1e-3, 0.9), 3000, set(), 1e-2),
    "adam": (transformed(optax.adam(0.05)), 3000, set(), 1e-2),
    "newton": (newton(), 50, {"himmelblau"}, 1e-3),
    "damped_newton": (damped_newton(), 50, set(), 1e-3),
    "newton_cg": (newton_cg(), 300, set(), 1e-2),
    "gauss_newton": (gauss_newton(), 50, set(), 1e-3),
    "levenberg_marquardt": (levenberg_marquardt(), 100, set(), 1e-3),
    "grid": (grid(*BOX, (1001, 1001), block=2**17), blocks((1001, 1001), 2**17), set(), 2e-2),
    "random_search": (random_search(*BOX, block=4096), 100, set(), 0.25),
    "genetic": (genetic(1.0), 400, set(), 5e-2),
    "cma": (cma(0.5), 200, set(), 1e-2),
}
"""name: (method, steps, problems that it does not solve, largest distance to the nearest global minimum)."""

QUICK = ("gradient_descent", "momentum", "levenberg_marquardt", "grid")
"""What runs every time; compiling the others takes long, and each has quick proofs of its own beside this file."""


def residuals_of(i, x):
    a, b = x[0], x[1]
    each = (
        (a + 2 * b - 7, 2 * a + b - 5),
        (10 * (b - a**2), 1 - a),
        (a**2 + b - 11, a + b**2 - 7),
    )
    return jnp.stack([jnp.stack(r) for r in each])[i]


def everywhere(method, steps):
    """One run per problem, all in one program."""

    def one(i, x0, key):
        def f(x):
            r = residuals_of(i, x)
            return jnp.sqrt(2.0) * r if method.residuals else r @ r

        return run(method, f, x0, steps=steps, gradient_tolerance=1e-4, key=key, keep_points=False)

    starts = jnp.asarray(np.stack([surface.start for surface in SURFACES]), jnp.float32)
    return jax.jit(jax.vmap(one))(jnp.arange(len(SURFACES)), starts, jax.random.split(jax.random.key(0), len(SURFACES)))


def test_the_table_holds_the_named_surfaces():
    for i, surface in enumerate(SURFACES):
        x = jnp.asarray(surface.start, jnp.float32) + 0.3
        r = residuals_of(i, x)
        assert float(r @ r) == pytest.approx(float(surface.f(x)), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in METHODS])
def test_every_method_on_every_problem(name):
    method, steps, unsolved, tolerance = METHODS[name]
    found = everywhere(method, steps)
    for i, (problem, surface) in enumerate(zip(PROBLEMS, SURFACES, strict=True)):
        values = np.asarray(found.trace.values[i])
        assert np.isfinite(values).all() and float(found.value[i]) == values[-1]
        assert int(found.evaluations[i]) > int(found.steps[i])
        distance = np.linalg.norm(surface.minima - np.asarray(found.x[i]), axis=-1).min()
        assert (distance < tolerance) == (problem not in unsolved), (problem, distance, REASONS[int(found.reason[i])])


def sphere(x):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x))


DESCENT = gradient_descent(0.25)
TREE = {"a": jnp.full((2, 2), 4.0), "b": jnp.full(3, -8.0)}


def test_params_keep_their_structure_and_the_trace_is_the_way():
    found = minimize(DESCENT, sphere, TREE, steps=3)
    jax.tree.map(lambda x, start: np.testing.assert_allclose(x, start / 8), found.x, TREE)
    start = np.concatenate([np.full(4, 4.0), np.full(3, -8.0)])
    np.testing.assert_allclose(found.trace.points, start / 2.0 ** np.arange(4)[:, None])
    np.testing.assert_allclose(found.trace.values, 256 / 4.0 ** np.arange(4))
    np.testing.assert_allclose(found.trace.gradient_norms, 32 / 2.0 ** np.arange(4))
    np.testing.assert_array_equal(found.trace.evaluations, [1, 2, 3, 4])
    assert (found.reason, found.steps, found.evaluations, found.value) == ("budget", 3, 4, 4.0)


@pytest.mark.parametrize(
    ("options", "reason", "steps"),
    [
        ({"gradient_tolerance": 2.0}, "gradient", 4),
        ({"step_tolerance": 1.0}, "step", 4),
        ({"target": 1.0}, "value", 4),
        ({"gradient_tolerance": 40.0}, "gradient", 0),
        ({"target": 257.0}, "value", 0),
    ],
)
def test_reasons_for_stopping(options, reason, steps):
    # ‖g‖ = 32/2ᵏ, the k-th step 16/2ᵏ, f = 256/4ᵏ.
    found = minimize(DESCENT, sphere, TREE, steps=10, **options)
    assert (found.reason, found.steps, len(found.trace.values)) == (reason, steps, steps + 1)


def barrier(x):
    return -jnp.log(x).sum()


def test_divergence_ends_at_the_last_finite_point():
    found = minimize(gradient_descent(-0.3), barrier, jnp.ones(2), steps=10)
    assert found.reason == "diverged" and np.isfinite(found.x).all() and np.isfinite(found.trace.values).all()
    assert (np.asarray(found.x) > 0).all() and found.evaluations == found.steps + 2
    up = minimize(gradient_descent(1.5), lambda x: x @ x, jnp.ones(2), steps=500)
    assert up.reason == "diverged" and np.isfinite(up.value)


def test_bad_input():
    with pytest.raises(ValueError, match="at x0 f is nan"):
        minimize(DESCENT, barrier, -jnp.ones(2), steps=1)
    with pytest.raises(ValueError, match=r"a scalar, and gives shape \(2,\)"):
        minimize(DESCENT, lambda x: x**2, jnp.ones(2), steps=1)
    with pytest.raises(ValueError, match="vector of residuals"):
        minimize(gauss_newton(), sphere, jnp.ones(2), steps=1)
    with pytest.raises(ValueError, match="steps"):
        minimize(DESCENT, sphere, jnp.ones(2), steps=-1)
    for method in (random_search(*BOX), genetic(1.0), cma(1.0)):
        with pytest.raises(ValueError, match="pass key"):
            minimize(method, sphere, jnp.ones(2), steps=1)


def test_a_method_is_two_functions():
    def step(f, now, key):
        x = now.x / 2
        return state(x, f(x), evaluations=now.evaluations + 1, complete=jnp.abs(x).max() < 0.3)

    halving = Method(lambda f, x0, key: state(x0, f(x0), evaluations=1), step)
    found = minimize(halving, sphere, np.array([1, -1]), steps=9)
    assert (found.reason, found.steps) == ("complete", 2)
    np.testing.assert_array_equal(found.x, [0.25, -0.25])
