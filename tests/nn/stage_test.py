"""Stages, stacked and not; layers that residual networks are made of (lecture 12.4, 16)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import (
    BatchNorm,
    ConvNorm,
    Dense,
    LayerScale,
    Stage,
    StochasticDepth,
    linear_rates,
    residual,
    restack,
    serial,
    starting_at,
    stochastic_depth,
    unstack,
)
from dlcore.nn._pool_ceil import ceil_width, max_pool_ceil
from dlcore.nn.init import he_normal_fan_out, zeros


def stages():
    block = residual(serial(dense=Dense(3), norm=BatchNorm()))
    return [Stage(serial(dense=Dense(3)), block, 3, scan=scan) for scan in (False, True)]


def test_a_scanned_stage_is_the_same_function_of_stacked_params():
    plain, scanned = stages()
    x = jax.random.normal(jax.random.key(0), (4, 5))
    params, state = plain.init(jax.random.key(1), x)
    like = jax.eval_shape(scanned.init, jax.random.key(1), x)
    assert set(params) == {"block_0", "block_1", "block_2"} and set(like[0]) == {"block_0", "rest"}
    stacked = restack(params, like[0]), restack(state, like[1])
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(lambda leaf: leaf.shape, like)
    jax.tree.map(np.testing.assert_array_equal, (unstack(stacked[0]), unstack(stacked[1])), (params, state))
    out, new = plain.apply(params, state, x, train=True)
    out_stacked, new_stacked = scanned.apply(*stacked, x, train=True)
    np.testing.assert_allclose(out, out_stacked, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), new, unstack(new_stacked))


def test_unstacking_shapes_needs_no_values():
    plain, scanned = (jax.eval_shape(s.init, jax.random.key(0), jnp.zeros((4, 5))) for s in stages())
    assert tuple(map(unstack, scanned)) == plain
    with pytest.raises(ValueError, match="count"):
        Stage(Dense(3), Dense(3), 0)


def test_ceil_pooling_starts_every_window_inside_and_misses_no_cell():
    for n, window, stride in itertools.product(range(3, 12), (1, 2, 3), (1, 2, 3)):
        starts = [i * stride for i in range(n) if i * stride < n]
        # The last window needed is the first that reaches the end.
        kept = next((i for i, start in enumerate(starts, 1) if start + window >= n), len(starts))
        assert ceil_width(n, window, stride) == max(starts[kept - 1] + window - n, 0)


def test_ceil_pooling_by_brute_loop():
    x = np.random.default_rng(0).normal(size=(2, 8, 7, 3)).astype(np.float32)
    expected = np.stack(
        [np.stack([x[:, i : i + 3, j : j + 3].max((1, 2)) for j in range(0, 6, 2)], axis=1) for i in range(0, 7, 2)],
        axis=1,
    )
    np.testing.assert_array_equal(max_pool_ceil(jnp.asarray(x), 3, 2), expected)
    np.testing.assert_array_equal(max_pool_ceil(jnp.asarray(x), 2, 2)[:, :, -1], x[:, :, -1].reshape(2, 4, 2, 3).max(2))


def test_stochastic_depth_drops_whole_examples_and_keeps_the_mean():
    x = jnp.ones((4000, 2, 3))
    out = np.asarray(stochastic_depth(x, 0.25, key=jax.random.key(0)))
    assert all(len(np.unique(example)) == 1 for example in out[:50])
    np.testing.assert_allclose(np.unique(out), [0, 4 / 3], rtol=1e-6)
    # Four standard deviations of the mean of 4000 independent examples.
    assert abs(out.mean() - 1) < 4 * np.sqrt(0.25 / 0.75 / 4000)
    layer = StochasticDepth(0.25)
    np.testing.assert_array_equal(layer.apply({}, {}, x)[0], x)
    with pytest.raises(ValueError, match="key"):
        layer.apply({}, {}, x, train=True)
    with pytest.raises(ValueError, match="rate"):
        StochasticDepth(1.0)
    assert linear_rates(0.3, 4) == pytest.approx((0, 0.1, 0.2, 0.3)) and linear_rates(0.3, 1) == (0,)


def test_starts_and_scales():
    x = jax.random.normal(jax.random.key(0), (64, 5))
    norm = starting_at(BatchNorm(), scale=zeros)
    params, state = norm.init(jax.random.key(1), x)
    assert not norm.apply(params, state, x, train=True)[0].any() and set(params) == {"scale", "bias"}
    with pytest.raises(ValueError, match=r"scale.*not.*gain"):
        starting_at(BatchNorm(), gain=zeros).init(jax.random.key(0), x)
    params, _ = LayerScale(0.1).init(jax.random.key(0), x)
    np.testing.assert_allclose(LayerScale().apply(params, {}, x)[0], 0.1 * x, rtol=1e-6)
    kernel = he_normal_fan_out(jax.random.key(2), (3, 3, 40, 50))
    assert np.var(kernel) == pytest.approx(2 / (9 * 50), rel=0.05)


def test_conv_norm_keeps_odd_sizes_and_has_no_bias():
    x = jax.random.normal(jax.random.key(0), (8, 7, 7, 2))
    unit = ConvNorm(4, 3, stride=2)
    params, state = unit.init(jax.random.key(1), x)
    assert set(params["conv"]) == {"kernel"}
    out, _ = unit.apply(params, state, x, train=True)
    assert out.shape == (8, 4, 4, 4) and out.min() == 0
    linear, _ = ConvNorm(4, 3, stride=2, activation=None).apply(params, state, x, train=True)
    np.testing.assert_allclose(linear.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(linear.var((0, 1, 2)), 1, rtol=1e-3)
