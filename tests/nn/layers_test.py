"""Layers against Flax, SciPy and brute force (lecture 8, 14, 15)."""

import itertools

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from dlcore.nn import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Embedding,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    adaptive_avg_pool,
    avg_pool,
    conv,
    dropout,
    embedding,
    group_norm,
    max_pool,
)
from dlcore.nn.init import glorot_normal, glorot_uniform, he_normal, he_uniform, lecun_normal, lecun_uniform, orthogonal

KEY = jax.random.key(0)


def close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def same_as_linen(model, module, x, collections=("params",)):
    """Output and gradients equal with the module's own params."""

    @jax.jit
    def both(x):
        variables, state = module.init(KEY, x), model.init(KEY, x)[1]
        value = lambda apply: jax.value_and_grad(lambda p, x: (apply(p, x) ** 2).mean(), argnums=(0, 1))  # noqa: E731
        ours = value(lambda p, x: model.apply(p, state, x)[0])
        theirs = value(lambda p, x: module.apply({**variables, "params": p}, x))
        return ours(variables["params"], x), theirs(variables["params"], x)

    jax.tree.map(close, *both(x))


def test_dense():
    same_as_linen(Dense(5), linen.Dense(5), jax.random.normal(KEY, (3, 2, 4)))


SHAPES = [(1, 4, 2), (2, 4, 4), (2, 1, 1), (2, 3, 1), (3, 2, 1), (3, 1, 1)]
"""Axes, channels and groups."""

CONVOLUTIONS = [
    pytest.param(
        stride, dilation, padding, *shape, marks=[] if (stride + dilation + i + j) % 3 == 0 else [pytest.mark.slow]
    )
    for stride, dilation, (i, padding), (j, shape) in itertools.product(
        (1, 2, 3), (1, 2), enumerate(("zero", "valid", 2)), enumerate(SHAPES)
    )
]
"""All combinations; a third of them, in which every pair of settings occurs, is quick enough for each commit."""


@pytest.mark.sampled
@pytest.mark.parametrize(("stride", "dilation", "padding", "axes", "channels", "groups"), CONVOLUTIONS)
def test_convolution(stride, dilation, padding, axes, channels, groups):
    x = jax.random.normal(KEY, (2, *(9, 8, 7)[:axes], channels))
    ours = Conv(4, 3, stride=stride, dilation=dilation, padding=padding, groups=groups)
    name = {"zero": "SAME", "valid": "VALID"}.get(padding, [(2, 2)] * axes)
    theirs = linen.Conv(
        4, (3,) * axes, (stride,) * axes, name, kernel_dilation=(dilation,) * axes, feature_group_count=groups
    )
    same_as_linen(ours, theirs, x)


def brute_conv(x, kernel, mode, dilation=1):
    """2-D cross-correlation that looks every cell up by its index rule."""
    (h, w), (kh, kw) = x.shape[1:3], kernel.shape[:2]
    low = [((k - 1) * dilation) // 2 for k in (kh, kw)]
    rule = {"periodic": lambda i, n: i % n, "mirror": lambda i, n: n - 1 - abs(n - 1 - abs(i))}[mode]
    y = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for i, j, a, b in itertools.product(range(h), range(w), range(kh), range(kw)):
        cell = x[:, rule(i + a * dilation - low[0], h), rule(j + b * dilation - low[1], w)]
        y[:, i, j] += cell @ kernel[a, b]
    return y


@pytest.mark.sampled
@pytest.mark.parametrize("mode", ["mirror", "periodic"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_mirror_and_periodic_padding(mode, channels, dilation):
    x = np.asarray(jax.random.normal(KEY, (2, 6, 5, channels)))
    kernel = np.asarray(jax.random.normal(jax.random.key(1), (3, 3, channels, 4)))
    close(
        conv(jnp.asarray(x), jnp.asarray(kernel), padding=mode, dilation=dilation),
        brute_conv(x, kernel, mode, dilation),
    )


@pytest.mark.parametrize("channels", [1, 2])
def test_convolution_is_scipys_correlation(channels):
    x = np.asarray(jax.random.normal(KEY, (7, 6, channels)))
    kernel = np.asarray(jax.random.normal(jax.random.key(1), (3, 2, channels)))
    expected = sum(scipy.signal.correlate2d(x[..., c], kernel[..., c], "valid") for c in range(channels))
    close(conv(jnp.asarray(x[None]), jnp.asarray(kernel[..., None]), padding="valid")[0, ..., 0], expected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"groups": 2}, "groups=2"),
        ({"padding": "full"}, "valid, zero, same, mirror, reflect"),
        ({"padding": "valid", "dilation": 5}, "window reaches over 11"),
        ({"padding": "mirror", "dilation": 6}, "needs more than"),
        ({"stride": 0}, "stride"),
        ({"padding": [(1, 1)]}, "2 axes"),
    ],
)
def test_convolution_that_does_not_fit(options, text):
    with pytest.raises(ValueError, match=text):
        conv(jnp.ones((1, 6, 6, 3)), jnp.ones((3, 3, 3, 4)), **options)


def test_pooling_by_hand():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(max_pool(x, 2)[0, ..., 0], [[5, 7], [13, 15]])
    np.testing.assert_array_equal(avg_pool(x, 2)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_array_equal(max_pool(x, 3, stride=1)[0, ..., 0], [[10, 11], [14, 15]])
    np.testing.assert_array_equal(avg_pool(x, 3, stride=3, padding=1)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])


@pytest.mark.slow
@pytest.mark.parametrize("size", [5, 6, 7])
@pytest.mark.parametrize(("window", "stride"), [(2, None), (3, 2), (2, 1), (3, None)])
def test_pooling_against_flax(size, window, stride):
    x = jax.random.normal(KEY, (2, size, size, 3))
    strides = (stride or window,) * 2
    for ours, theirs in ((max_pool, linen.max_pool), (avg_pool, linen.avg_pool)):
        f = lambda x: (ours(x, window, stride=stride) ** 2).sum()  # noqa: B023, E731
        g = lambda x: (theirs(x, (window, window), strides) ** 2).sum()  # noqa: B023, E731
        jax.tree.map(close, jax.value_and_grad(f)(x), jax.value_and_grad(g)(x))


def test_the_first_of_equals_has_the_gradient_of_the_maximum():
    x = jnp.asarray([[3.0, 3, 1, 2], [3, 0, 2, 2]])[None, ..., None]
    slope = jax.jit(jax.grad(lambda x: (max_pool(x, 2) ** 2).sum()))
    np.testing.assert_array_equal(slope(x)[0, ..., 0], [[6, 0, 0, 4], [0, 0, 0, 0]])
    np.testing.assert_array_equal(jax.jvp(slope, (x,), (x + 1,))[1][0, ..., 0], [[8, 0, 0, 6], [0, 0, 0, 0]])
    np.testing.assert_array_equal(jax.vmap(slope)(x[None])[0], slope(x))


@pytest.mark.sampled
@pytest.mark.parametrize(("size", "bins"), [(5, 2), (7, 3), (6, 6), (3, 4)])
def test_adaptive_pooling_is_brute_force(size, bins):
    x = np.asarray(jax.random.normal(KEY, (2, size, size, 1)))
    edges = [(i * size // bins, -(-(i + 1) * size // bins)) for i in range(bins)]
    expected = np.array([[x[:, a:b, c:d].mean((1, 2)) for c, d in edges] for a, b in edges]).transpose(2, 0, 1, 3)
    close(adaptive_avg_pool(jnp.asarray(x), bins), expected)


def test_batch_norm_against_flax():
    x = 3 + 2 * jax.random.normal(KEY, (16, 5, 5, 4))
    module = linen.BatchNorm(momentum=0.9, epsilon=1e-5)
    variables = module.init(KEY, x, use_running_average=False)
    model = BatchNorm()
    params, state = model.init(KEY, x)
    for i in range(3):
        batch = x[i * 4 : i * 4 + 8]
        expected, new = module.apply(variables, batch, use_running_average=False, mutable=["batch_stats"])
        out, state = model.apply(params, state, batch, train=True)
        close(out, expected)
        variables = {**variables, **new}
        close(state["mean"], new["batch_stats"]["mean"])
        close(state["variance"], new["batch_stats"]["var"])
    close(model.apply(params, state, x)[0], module.apply(variables, x, use_running_average=True))


def test_batch_norm_statistics_stay_exact_in_bfloat16():
    x = (100 + jax.random.normal(KEY, (4096, 2))).astype(jnp.bfloat16)
    _, state = BatchNorm(momentum=0.0).apply({}, {"mean": jnp.zeros(2), "variance": jnp.ones(2)}, x, train=True)
    close(state["mean"], np.asarray(x, np.float64).mean(0), 1e-4)
    close(state["variance"], np.asarray(x, np.float64).var(0), 1e-3)


@pytest.mark.slow
def test_layer_and_group_norm_against_flax():
    x = 3 + 2 * jax.random.normal(KEY, (4, 5, 5, 6))
    same_as_linen(LayerNorm(), linen.LayerNorm(epsilon=1e-5), x)
    same_as_linen(GroupNorm(3), linen.GroupNorm(3, epsilon=1e-5), x)
    same_as_linen(InstanceNorm(), linen.InstanceNorm(epsilon=1e-5), x)
    close(group_norm(x, 6), (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5), 1e-4)


def test_dropout_is_inverted_and_reproducible():
    x = jnp.ones((400, 500))
    y = np.asarray(dropout(x, 0.3, key=KEY))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.7)}
    standard_error = np.sqrt(0.3 / 0.7 / x.size)
    assert abs(y.mean() - 1) < 4 * standard_error
    np.testing.assert_array_equal(y, dropout(x, 0.3, key=KEY))
    maps = np.asarray(dropout(jnp.ones((8, 4, 4, 16)), 0.5, key=KEY, broadcast_axes=(1, 2)))
    assert (maps == maps[:, :1, :1]).all() and len(np.unique(maps)) == 2
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="rate"):
            dropout(x, rate, key=KEY)


@pytest.mark.parametrize("axes", [(), (0,), (1, 2), (-1,), (-3, 2), (0, 1, 2, 3)])
def test_a_mask_is_shared_along_broadcast_axes_and_along_no_other(axes):
    shape = (6, 5, 4, 7)
    for run in (
        dropout,
        lambda x, rate, **options: Dropout(rate, broadcast_axes=axes).apply({}, {}, x, train=True, key=KEY)[0],
    ):
        kept = np.asarray(run(jnp.ones(shape), 0.5, key=KEY, broadcast_axes=axes)) != 0
        shared = {axis % 4 for axis in axes}
        for axis in range(4):
            same = (kept == np.take(kept, [0], axis)).all()
            assert same == (axis in shared or len(shared) == 4), (axes, axis)


def test_embedding():
    ids = jnp.array([[0, 2], [1, 1]])
    model = Embedding(3, 4)
    params, _ = model.init(KEY, ids)
    np.testing.assert_array_equal(model.apply(params, {}, ids)[0], params["embedding"][np.asarray(ids)])
    outside = embedding(jnp.array([3, -1, 0]), params["embedding"])
    assert np.isnan(outside[:2]).all() and np.isfinite(outside[2]).all()


@pytest.mark.parametrize(
    ("initializer", "variance"),
    [
        (lecun_normal, lambda i, o: 1 / i),
        (lecun_uniform, lambda i, o: 1 / i),
        (glorot_normal, lambda i, o: 2 / (i + o)),
        (glorot_uniform, lambda i, o: 2 / (i + o)),
        (he_normal, lambda i, o: 2 / i),
        (he_uniform, lambda i, o: 2 / i),
    ],
)
@pytest.mark.parametrize("shape", [(200, 300), (3, 3, 40, 50)])
def test_variances(initializer, variance, shape):
    w = np.asarray(initializer(KEY, shape), np.float64)
    window = np.prod(shape[:-2])
    expected = variance(window * shape[-2], window * shape[-1])
    assert abs(w.var() / expected - 1) < 0.05 and abs(w.mean()) < 4 * np.sqrt(expected / w.size)


def test_orthogonal():
    w = np.asarray(orthogonal(2.0)(KEY, (3, 3, 4, 6)), np.float64).reshape(36, 6)
    close(w.T @ w, 4 * np.eye(6))
