"""Penalties on codes against numbers by hand, SciPy and finite differences (lecture 21.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dlcore.generative import code_penalty
from dlcore.generative.code_penalty import contraction, kl_sparsity, laplace_nll, units
from dlcore.networks import MLPEncoder

RNG = np.random.default_rng(0)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def test_sparsity_is_of_the_batch_mean_of_each_unit():
    codes = jnp.asarray([[0.9, 0.1], [0.1, 0.1]])
    assert float(kl_sparsity(codes, 0.1)) == pytest.approx(0.368064, abs=1e-6)
    h = RNG.uniform(0.05, 0.6, (30, 4))
    mean = h.mean(0)
    expected = sum(scipy.stats.entropy([0.2, 0.8], [m, 1 - m]) for m in mean)
    assert float(kl_sparsity(jnp.asarray(h), 0.2)) == pytest.approx(expected, rel=1e-5)
    # ∂/∂h_ij = ((1 − ρ)/(1 − ρ̂_j) − ρ/ρ̂_j)/b
    gradient = jax.grad(lambda h: kl_sparsity(h, 0.2))(jnp.asarray(h))
    np.testing.assert_allclose(gradient, np.tile((0.8 / (1 - mean) - 0.2 / mean) / 30, (30, 1)), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_sparsity_leaves_out_what_is_masked_and_stays_finite():
    h, where = RNG.uniform(0.1, 0.9, (8, 3)), np.arange(8) < 5
    padded = np.where(where[:, None], h, np.nan)
    found = kl_sparsity(jnp.asarray(padded), 0.3, where=jnp.asarray(where))
    assert float(found) == pytest.approx(float(kl_sparsity(jnp.asarray(h[:5]), 0.3)), rel=1e-6)
    gradient = jax.grad(lambda h: kl_sparsity(h, 0.3, where=jnp.asarray(where)))(jnp.asarray(padded))
    assert np.isfinite(gradient).all() and not gradient[5:].any()
    assert float(kl_sparsity(jnp.asarray(h), 0.3, where=jnp.zeros(8, bool))) == 0
    for extreme in (0.0, 1.0):
        value, gradient = jax.value_and_grad(lambda h: kl_sparsity(h, 0.3))(jnp.full((4, 2), extreme))
        assert np.isfinite(value) and value > 5 and np.isfinite(gradient).all()


def test_sparsity_refuses_codes_that_are_no_rates():
    with pytest.raises(ValueError, match=r"codes must lie in \[0, 1\]; use sigmoid units"):
        kl_sparsity(jnp.asarray([[0.5, -0.5]]), 0.1)
    assert np.isnan(jax.jit(lambda h: kl_sparsity(h, 0.1))(jnp.asarray([[0.5, 1.5]])))
    with pytest.raises(ValueError, match="target must lie between 0 and 1"):
        kl_sparsity(jnp.ones((2, 2)), 0.0)


def test_the_l1_penalty_is_the_prior_of_laplace_units():
    h = RNG.normal(size=(5, 3))
    expected = -scipy.stats.laplace(scale=1 / 0.7).logpdf(h).sum(1)
    np.testing.assert_allclose(laplace_nll(jnp.asarray(h), 0.7), expected, rtol=1e-5)
    np.testing.assert_allclose(
        jax.grad(lambda h: laplace_nll(h, 0.7).sum())(jnp.asarray(h)), 0.7 * np.sign(h), rtol=1e-6
    )


def test_contraction_of_one_sigmoid_layer_by_hand():
    kernel = jnp.asarray([[1.0, 2.0], [3.0, -1.0]])
    found = contraction(lambda x: jax.nn.sigmoid(x @ kernel), jnp.asarray([[0.5, 0.25]]))
    assert float(found[0]) == pytest.approx(0.537044, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("codes", [2, 7])
def test_contraction_is_the_jacobian_whichever_side_is_smaller(codes, float64):
    encoder = MLPEncoder((5,), codes, activation="tanh", code="sigmoid")
    x = jnp.asarray(RNG.normal(size=(3, 2, 2, 1)))
    start = jax.jit(encoder.init)(jax.random.key(0), x)
    params, state = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), start)
    found = jax.jit(lambda x: contraction(lambda x: encoder.apply(params, state, x)[0], x))(x)
    one = jax.jit(lambda x: encoder.apply(params, state, x[None])[0][0])
    jacobian = jax.jit(jax.jacobian(one))
    expected = [float((jacobian(row) ** 2).sum()) for row in x]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # By finite differences, and so is the gradient of the penalty in a weight.
    step = 1e-5
    total = jax.jit(lambda p: contraction(lambda x: encoder.apply(p, state, x)[0], x).sum())
    apart = [(one(x[0] + step * e) - one(x[0] - step * e)) / (2 * step) for e in jnp.eye(4).reshape(4, 2, 2, 1)]
    assert float((np.asarray(apart) ** 2).sum()) == pytest.approx(expected[0], rel=1e-8)
    gradient = jax.jit(jax.grad(total))(params)
    kernel = params["dense_0"]["kernel"]
    moved = [
        float(total({**params, "dense_0": {**params["dense_0"], "kernel": kernel.at[1, 2].add(s)}}))
        for s in (step, -step)
    ]
    assert float(gradient["dense_0"]["kernel"][1, 2]) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-6)


def test_units_that_are_never_on_are_dead():
    codes = np.abs(RNG.normal(size=(40, 4)))
    codes[:, 1], codes[1:, 2] = 0, 0
    where = np.arange(40) < 30
    parts = [units(jnp.asarray(codes[i : i + 8]), jnp.asarray(where[i : i + 8])) for i in range(0, 40, 8)]
    found = code_penalty.report(jax.tree.map(lambda *x: sum(x), *parts))
    kept = codes[:30]
    assert found["dead_units"] == 1
    assert found["active_fraction"] == pytest.approx((kept > 0).mean())
    assert found["code_activity"] == pytest.approx(kept.mean(), rel=1e-5)
    assert code_penalty.report(units(jnp.asarray(codes[:, :1]), threshold=10.0))["dead_units"] == 1
