"""Gradients of normalisations, first and second, against the textbook's formulas in float64 (lecture 15).

The formulas here leave every derivative to JAX; the layers say by themselves that a variance does not change with its
mean, and gather what they add up.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, _norm, _rows

SHAPE = (3, 4, 5, 6)
EPSILON = 1e-2


@pytest.fixture(autouse=True, params=["slabs", "plain", "one pass"])
def way(request, monkeypatch):
    """That of one CPU device, the plain one that the eight of the tests get, and that of a GPU."""
    for module in (_rows, _norm):
        monkeypatch.setattr(module, "by_slabs", lambda: request.param == "slabs")
    monkeypatch.setattr(_norm, "in_one_pass", lambda: request.param == "one pass")
    return request.param


def textbook(x, axes, params):
    """(x − E x)/√(Var x + ε) · γ + β."""
    mean = x.mean(axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    return ((x - mean) / jnp.sqrt(variance + EPSILON)).reshape(SHAPE) * params["scale"] + params["bias"]


LAYERS = {
    "batch": (BatchNorm(epsilon=EPSILON), lambda x, p: textbook(x, (0, 1, 2), p)),
    "layer": (LayerNorm(epsilon=EPSILON), lambda x, p: textbook(x, 3, p)),
    "group": (GroupNorm(3, epsilon=EPSILON), lambda x, p: textbook(x.reshape(3, 4, 5, 3, 2), (1, 2, 4), p)),
    "instance": (InstanceNorm(epsilon=EPSILON), lambda x, p: textbook(x, (1, 2), p)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_are_those_of_the_textbook(name):
    model, formula = LAYERS[name]
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))  # noqa: E731
    with jax.enable_x64(True):
        x, weights, along = (draw(*SHAPE) + 2 for _ in range(3))
        params = {"scale": draw(6), "bias": draw(6)}
        _, state = model.init(jax.random.key(0), x)

        def layer(x, params):
            return model.apply(params, state, x, train=True)[0]

        def derivatives(function):
            loss = lambda x, params: (jnp.sin(function(x, params)) * weights).sum()  # noqa: E731
            gradient = jax.grad(loss, (0, 1))
            bent = jax.jvp(lambda x: gradient(x, params), (x,), (along,))[1]
            twice = jax.grad(lambda x, p: (gradient(x, p)[0] * along).sum(), (0, 1))(x, params)
            return function(x, params), gradient(x, params), bent, twice

        found, exact = jax.jit(lambda: (derivatives(layer), derivatives(formula)))()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_a_mean_far_from_zero_costs_group_norm_no_digits():
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 4)) + 4096
    x = np.asarray(x, np.float32).astype(np.float64)
    y = jax.jit(GroupNorm(2).apply)({}, {}, jnp.asarray(x, jnp.float32))[0]
    groups = x.reshape(2, 8, 8, 2, 2)
    mean, variance = groups.mean((1, 2, 4), keepdims=True), groups.var((1, 2, 4), keepdims=True)
    np.testing.assert_allclose(y, ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape), atol=1e-3)
