"""Sizes that are NumPy's integers, padding per axis, and what is no size (lecture 8, 14)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from dlcore.backprop import geometry
from dlcore.nn import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BlockConv,
    Conv,
    ConvNorm,
    ConvTranspose,
    Dense,
    DepthToSpace,
    Embedding,
    GroupConv,
    GroupLift,
    GroupNorm,
    MaxPool,
    MaxPoolCeil,
    Reshape,
    avg_pool,
    conv,
    conv_by_blocks,
    conv_matrix,
    conv_transpose,
    count_connections,
    max_pool,
    pad_widths,
    per_axis,
    space_to_depth,
    transposed_space,
)
from dlcore.setting import whole

IMAGE = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)

MODELS = {
    "dense": (lambda n: Dense(n(6)), IMAGE),
    "conv": (lambda n: Conv(n(6), n(3), stride=n(2), padding=n(1), dilation=n(2), groups=n(2)), IMAGE),
    "conv_per_axis": (
        lambda n: Conv(
            6, (n(3), n(2)), stride=(n(2), n(1)), padding=((n(1), n(0)), (n(0), n(1))), dilation=(n(1), n(2))
        ),
        IMAGE,
    ),
    "conv_transpose": (lambda n: ConvTranspose(n(6), n(4), stride=n(2), padding=n(1), groups=n(2)), IMAGE),
    "block_conv": (lambda n: BlockConv(n(6), n(4), stride=n(2), padding=(n(1), n(1))), IMAGE),
    "conv_norm": (lambda n: ConvNorm(n(6), n(3), stride=n(2), groups=n(2)), IMAGE),
    "embedding": (lambda n: Embedding(n(6), n(3)), jax.ShapeDtypeStruct((2,), jnp.int32)),
    "group_lift": (lambda n: GroupLift(n(6), n(3)), IMAGE),
    "group_conv": (lambda n: GroupConv(n(6), n(3)), jax.ShapeDtypeStruct((2, 5, 5, 4, 2), jnp.float32)),
    "group_norm": (lambda n: GroupNorm(n(2)), IMAGE),
    "max_pool": (lambda n: MaxPool(n(3), stride=n(2), padding=n(1)), IMAGE),
    "avg_pool": (lambda n: AvgPool((n(3), n(2)), stride=(n(2), n(2)), padding=(n(1), n(0))), IMAGE),
    "adaptive_avg_pool": (lambda n: AdaptiveAvgPool(n(3)), IMAGE),
    "adaptive_max_pool": (lambda n: AdaptiveMaxPool((n(3), n(2))), IMAGE),
    "max_pool_ceil": (lambda n: MaxPoolCeil(n(3), n(2)), IMAGE),
    "depth_to_space": (lambda n: DepthToSpace(n(2)), IMAGE),
    "reshape": (lambda n: Reshape((n(16), n(16))), IMAGE),
}
"""name: (the model of a way to write its sizes, its input)."""


def shapes(make, n, x):
    model = make(n)
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    return params, jax.eval_shape(lambda p, s, x: model.apply(p, s, x)[0], params, state, x)


@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("name", MODELS)
def test_sizes_of_numpys_make(name, integer):
    make, x = MODELS[name]
    assert shapes(make, integer, x) == shapes(make, int, x)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "wrong", [lambda i: i + 0.0, lambda i: np.float32(i), lambda i: True, lambda i: str(i), lambda i: -i]
)
def test_what_is_no_size_is_refused(name, wrong):
    make, x = MODELS[name]
    with pytest.raises((ValueError, TypeCheckError)):
        shapes(make, wrong, x)


def test_whole_numbers():
    assert whole(3, "n") == 3 and type(whole(np.uint8(3), "n")) is int and whole(0, "n", least=0) == 0
    assert whole(jnp.asarray(4), "n") == 4
    for wrong in (
        2.0,
        np.float64(2),
        True,
        np.bool_(True),
        "2",
        None,
        0,
        -1,
        (2,),
        jnp.ones(2, int),
        jnp.asarray(True),
    ):
        with pytest.raises(ValueError, match="features must be a whole number of at least 1, got "):
            whole(wrong, "features")


@pytest.mark.parametrize("wrong", [2.0, (2, 2.0), True, "22", (1, 2, 3), (), None, np.ones(2)])
def test_what_is_no_window_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match="window must be"):
        per_axis(wrong, 2, "window")


@pytest.mark.parametrize(
    ("padding", "widths"),
    [
        (1, [(1, 1), (1, 1)]),
        (np.int64(2), [(2, 2), (2, 2)]),
        ((1, 2), [(1, 1), (2, 2)]),
        ([np.int32(0), 2], [(0, 0), (2, 2)]),
        (((1, 2), (3, 0)), [(1, 2), (3, 0)]),
        ((1, (0, 2)), [(1, 1), (0, 2)]),
        (np.array([1, 2]), [(1, 1), (2, 2)]),
        (np.array([[1, 2], [3, 4]]), [(1, 2), (3, 4)]),
        ("valid", [(0, 0), (0, 0)]),
    ],
    ids=str,
)
def test_ways_to_write_padding(padding, widths):
    assert pad_widths((9, 9), (3, 3), (1, 1), (1, 1), padding) == widths


@pytest.mark.parametrize(
    "padding", [1.0, True, (1, 2, 3), (1,), (1, -1), (1, 0.5), ((1, 2, 3), 1), None, "full", -1], ids=str
)
def test_what_is_no_padding_is_refused_by_name(padding):
    with pytest.raises(ValueError, match="padding must "):
        pad_widths.__wrapped__((9, 9), (3, 3), (1, 1), (1, 1), padding)


def test_padding_per_axis_is_the_same_everywhere():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((1, 6, 5, 2), (2, 2, 2, 3)))
    short, long = (1, 0), [(1, 1), (0, 0)]
    for function in (
        lambda padding: conv(x, kernel, padding=padding),
        lambda padding: conv_by_blocks(x, kernel, 2, padding),
        lambda padding: conv_transpose(x, kernel.swapaxes(2, 3)[..., :2], padding=padding),
        lambda padding: conv_matrix(kernel, (4, 3), padding=padding),
        lambda padding: max_pool(x, 2, padding=padding),
        lambda padding: avg_pool(x, 2, stride=1, padding=padding),
    ):
        graphs = [str(jax.make_jaxpr(functools.partial(function, padding))()) for padding in (short, long, (0, 1))]
        assert graphs[0] == graphs[1] != graphs[2]
    assert transposed_space((4, 4), (2, 2), padding=short) == (3, 5)
    assert geometry((6, 5), (2, 2), padding=short) == geometry((6, 5), (2, 2), padding=long)


def test_the_other_functions_take_numpys_integers():
    i = np.int64
    x = jnp.zeros((1, 4, 4, 2))
    assert space_to_depth(x, i(2)).shape == (1, 2, 2, 8)
    options = {"stride": i(2), "padding": i(1), "dilation": i(2), "groups": i(2)}
    assert conv_matrix(jnp.ones((2, 1, 2)), (i(6),), **options).shape == (3 * 2, 6 * 2)
    counts = count_connections((i(2),), (i(2), i(2)), (i(6),), **options)
    assert counts == count_connections((2,), (2, 2), (6,), stride=2, padding=1, dilation=2, groups=2)
    y = conv_transpose(jnp.zeros((1, 3, 2)), jnp.zeros((2, 1, 2)), groups=i(2), stride=i(2), space=(i(6),))
    assert y.shape == (1, 6, 2)
