"""Every bijection with double precision at hand, and of half precision (lecture 28)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flow_bijector_test import BATCH, CASES

from dlcore.generative.flow import ActNorm


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_a_flow_starts_and_runs_with_double_precision_at_hand(name):
    bijector, shape = CASES[name].bijector, (BATCH, *CASES[name].shape)
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct(shape, jnp.float64)
        condition = [jax.ShapeDtypeStruct((BATCH, *CASES[name].condition), jnp.float64)] if bijector.conditional else []
        params = jax.eval_shape(bijector.init, jax.random.key(0), x, *condition)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} <= {jnp.dtype("float32")}
        z, _ = jax.eval_shape(bijector.forward, params, x, *condition)
        back, _ = jax.eval_shape(bijector.inverse, params, z, *condition)
        assert z.dtype == back.dtype == jnp.float64 and back.shape == shape


def test_the_first_batch_is_measured_in_single_precision():
    x = jnp.asarray(np.random.default_rng(0).normal(100, 1, (512, 2)), jnp.bfloat16)
    params = ActNorm().init(jax.random.key(0), x)
    assert params["bias"].dtype == params["log_scale"].dtype == jnp.float32
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(params["bias"], -exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(params["log_scale"], -np.log(exact.std(0)), atol=1e-5)
