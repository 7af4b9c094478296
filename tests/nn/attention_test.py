"""Attention over positions is the softmax average written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import SpatialAttention


@pytest.mark.slow
def test_attention_is_a_softmax_average_over_positions():
    model, x = SpatialAttention(4, 1), jax.random.normal(jax.random.key(0), (1, 2, 3, 4))
    params, state = jax.jit(model.init)(jax.random.key(1), x)
    np.testing.assert_array_equal(model.apply(params, state, x)[0], x)
    params = {**params, "out": {**params["out"], "kernel": jnp.eye(4)}}
    h = np.asarray(x).reshape(6, 4)
    h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
    q, k, v = np.split(h @ np.asarray(params["qkv"]["kernel"]), 3, axis=1)
    scores = np.exp(q @ k.T / 2)
    expected = scores / scores.sum(1, keepdims=True) @ v
    np.testing.assert_allclose((model.apply(params, state, x)[0] - x).reshape(6, 4), expected, atol=1e-4)
    with pytest.raises(ValueError, match="heads=3"):
        SpatialAttention(4, 3)
