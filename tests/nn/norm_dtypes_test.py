"""Statistics of normalisations in half and in double precision (lecture 8, 14)."""

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.nn import BatchNorm, GroupNorm, InstanceNorm, LayerNorm


def test_running_statistics_keep_their_dtype_and_are_averaged_in_single_precision():
    x = jnp.asarray(np.random.default_rng(0).normal(3, 2, (512, 2)), jnp.float16)
    train = jax.jit(lambda p, s, x: BatchNorm(momentum=0.5).apply(p, s, x, train=True))
    for kind in (jnp.float32, jnp.bfloat16):
        state = {"mean": jnp.ones(2, kind), "variance": jnp.ones(2, kind)}
        _, new = train({}, state, x)
        assert new["mean"].dtype == new["variance"].dtype == kind
        exact = np.asarray(x, np.float64)
        np.testing.assert_allclose(new["mean"].astype(jnp.float32), 0.5 + 0.5 * exact.mean(0), rtol=2.0**-8)
        np.testing.assert_allclose(new["variance"].astype(jnp.float32), 0.5 + 0.5 * exact.var(0), rtol=2.0**-8)
    with jax.enable_x64(True):
        wide = jnp.asarray(np.random.default_rng(0).normal(3, 2, (64, 2)))
        y, new = train({}, {"mean": jnp.ones(2, "float32"), "variance": jnp.ones(2, "float32")}, wide)
        assert y.dtype == jnp.float64 and new["mean"].dtype == new["variance"].dtype == jnp.float32
        wide = np.asarray(wide)
        np.testing.assert_allclose(y, (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5), rtol=1e-10, atol=1e-10)


def test_statistics_of_half_precision_do_not_overflow_or_stop_counting():
    x = jnp.asarray(np.random.default_rng(0).uniform(200, 400, (4, 40, 40, 2)), jnp.float16)
    exact = np.asarray(x, np.float64)
    for model, axes in ((LayerNorm(), -1), (GroupNorm(1), (1, 2, 3)), (InstanceNorm(), (1, 2))):
        y = jax.jit(model.apply)({}, {}, x)[0]
        mean, var = exact.mean(axes, keepdims=True), exact.var(axes, keepdims=True)
        assert y.dtype == jnp.float16
        np.testing.assert_allclose(y, (exact - mean) / np.sqrt(var + 1e-5), rtol=2.0**-10, atol=2.0**-10)
