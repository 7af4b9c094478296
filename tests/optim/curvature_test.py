"""Derivatives along directions and products with curvature against dense autodiff and differences (lecture 5.2–5.8)."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from dlcore.optim import _curvature as curvature
from dlcore.optim import surfaces

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(12, 4)), jnp.float32)
Y = jnp.asarray(RNG.integers(0, 3, 12))
PARAMS = {
    "a": {"kernel": jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32), "bias": jnp.zeros(5)},
    "b": {"kernel": jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32)},
}


def logits(params):
    return jnp.tanh(X @ params["a"]["kernel"] + params["a"]["bias"]) @ params["b"]["kernel"]


def cross_entropy(outputs):
    return -jnp.mean(jax.nn.log_softmax(outputs)[jnp.arange(12), Y])


def loss(params):
    return cross_entropy(logits(params))


FLAT, UNRAVEL = ravel_pytree(PARAMS)
DENSE = np.asarray(jax.jit(jax.hessian(lambda v: loss(UNRAVEL(v))))(FLAT))
HVP = jax.jit(lambda v: curvature.hvp(loss, PARAMS, v))
SECOND = jax.jit(lambda v: curvature.second_directional_derivative(loss, PARAMS, v))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_products_are_those_with_the_dense_hessian(seed):
    u = np.random.default_rng(seed).normal(size=FLAT.size).astype(np.float32)
    u /= np.linalg.norm(u)
    np.testing.assert_allclose(ravel_pytree(HVP(UNRAVEL(jnp.asarray(u))))[0], DENSE @ u, atol=1e-5)
    value, spectrum = float(SECOND(UNRAVEL(jnp.asarray(u)))), np.linalg.eigvalsh(DENSE)
    assert value == pytest.approx(u @ DENSE @ u, abs=1e-5)
    assert spectrum[0] - 1e-5 <= value <= spectrum[-1] + 1e-5


@pytest.mark.slow
def test_hessian_is_the_jacobian_of_the_gradient():
    np.testing.assert_allclose(curvature.hessian(loss, PARAMS), DENSE, atol=1e-6)
    np.testing.assert_allclose(curvature.jacobian(jax.grad(loss), PARAMS), DENSE, atol=1e-6)


@pytest.mark.slow
def test_jacobian_by_central_differences_wide_and_tall():
    def f(x):
        return {"p": jnp.sin(x["u"]).sum() * x["v"], "q": x["u"][0] ** 3}

    x = {"u": jnp.asarray([0.3, -0.8]), "v": jnp.asarray([1.0, 2.0, -1.0])}
    with jax.enable_x64(True):
        x = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), x)
        flat, unravel = ravel_pytree(x)
        for function in (f, lambda x: x["u"] @ x["u"], lambda x: jnp.outer(x["u"], x["v"])):
            vector = lambda v, function=function: np.asarray(ravel_pytree(function(unravel(v)))[0])  # noqa: E731
            steps = 1e-5 * np.eye(flat.size)
            expected = np.stack([(vector(flat + h) - vector(flat - h)) / 2e-5 for h in steps], -1)
            np.testing.assert_allclose(curvature.jacobian(function, x), expected, atol=1e-8)


@pytest.mark.slow
def test_directional_derivative_is_least_along_steepest_descent():
    gradient = ravel_pytree(jax.grad(loss)(PARAMS))[0]
    best = curvature.steepest_direction(loss, PARAMS)
    least = float(curvature.directional_derivative(loss, PARAMS, best))
    assert least == pytest.approx(-float(jnp.linalg.norm(gradient)), rel=1e-5)
    for seed in range(20):
        u = np.random.default_rng(seed).normal(size=FLAT.size).astype(np.float32)
        u = jnp.asarray(u / np.linalg.norm(u))
        slope = float(curvature.directional_derivative(loss, PARAMS, UNRAVEL(u)))
        assert slope == pytest.approx(float(gradient @ u), abs=1e-6) and slope >= least
    assert float(curvature.norm(curvature.steepest_direction(lambda x: x @ x, jnp.zeros(3)))) == 0


@pytest.mark.slow
def test_gauss_newton_is_jacobian_hessian_jacobian():
    v = jnp.asarray(np.random.default_rng(1).normal(size=FLAT.size), jnp.float32)
    J = np.asarray(curvature.jacobian(logits, PARAMS))
    outputs = logits(PARAMS)
    inner = np.asarray(curvature.hessian(cross_entropy, outputs))
    found = ravel_pytree(curvature.gnvp(cross_entropy, logits, PARAMS, UNRAVEL(v)))[0]
    np.testing.assert_allclose(found, J.T @ (inner @ (J @ v)), atol=1e-5)
    assert float(found @ v) >= 0
    # With linear outputs nothing is left out.
    linear = {"kernel": jnp.ones((4, 3))}
    u = {"kernel": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)}
    outputs_of = lambda p: X @ p["kernel"]  # noqa: E731
    full = curvature.hvp(lambda p: cross_entropy(outputs_of(p)), linear, u)["kernel"]
    part = curvature.gnvp(cross_entropy, outputs_of, linear, u)["kernel"]
    np.testing.assert_allclose(full, part, atol=1e-6)


def test_best_rate_minimises_a_quadratic_along_the_gradient():
    f, x = surfaces.quadratic((1.0, 4.0), seed=2).f, jnp.asarray([1.0, 0.5])
    rate = float(curvature.best_rate(f, x))
    along = [float(f(x - t * jax.grad(f)(x))) for t in (0.95 * rate, rate, 1.05 * rate)]
    assert along[1] < min(along[0], along[2])
    assert float(curvature.best_rate(lambda x: -x @ x, x)) == np.inf


@pytest.mark.slow
def test_a_hessian_product_costs_at_most_four_gradients():
    width = 256
    params = [jax.random.normal(jax.random.key(i), (width, width)) / 16 for i in range(4)]
    x = jax.random.normal(jax.random.key(9), (256, width))

    def deep(params):
        h = x
        for kernel in params:
            h = jnp.tanh(h @ kernel)
        return jnp.mean(h**2)

    gradient, product = jax.jit(jax.grad(deep)), jax.jit(lambda p, v: curvature.hvp(deep, p, v))
    times = {"gradient": [], "product": []}
    for _ in range(21):
        for name, call in (("gradient", lambda: gradient(params)), ("product", lambda: product(params, params))):
            began = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - began)
    ratio = np.median(times["product"]) / np.median(times["gradient"])
    print(f"a Hessian-vector product costs {ratio:.2f} gradients")
    assert ratio <= 4
