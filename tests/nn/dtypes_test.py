"""One rule of dtypes for every layer and every way to compute it; sums in float32 at least (lecture 8, 14, 15)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks._pixelcnn import GatedLayer
from dlcore.networks._unet import TimeBlock
from dlcore.nn import (
    AvgPool,
    BatchNorm,
    BlockConv,
    Conv,
    ConvTranspose,
    Dense,
    GlobalAvgPool,
    GroupConv,
    GroupLift,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LayerScale,
    PositionBias,
    circular_convolve,
    compute_in,
    conv,
    conv_by_blocks,
    conv_matrix,
    conv_transpose,
    convolve,
    correlate,
    dense,
    embedding,
    equations,
    fft_convolve,
    max_pool,
    scan,
    serial,
)
from dlcore.nn._conv.lowering.depthwise import depthwise_in_kernel, sum_of_moved_taps
from dlcore.nn._conv.lowering.onednn import conv_by_onednn
from dlcore.nn._conv.lowering.patches import conv_by_patches
from dlcore.nn._conv.lowering.shifts import conv_by_shifts, sum_of_shifts
from dlcore.nn._conv.lowering.taps import conv_by_taps
from dlcore.nn._conv.lowering.xla import conv_by_xla
from dlcore.nn._product import row_product

ONE, SAME = (1, 1), ((1, 1), (1, 1))

WAYS = {
    "one tap sum": (conv, (2, 20, 30, 1), (3, 3, 1, 4)),
    "tap products": (conv, (2, 24, 24, 1), (7, 7, 1, 4)),
    "taps in groups": (functools.partial(conv, groups=4), (2, 20, 30, 4), (3, 3, 1, 8)),
    "taps with stride": (functools.partial(conv, stride=2, groups=4), (4, 32, 32, 4), (3, 3, 1, 4)),
    "large depthwise": (functools.partial(conv, groups=4), (2, 20, 30, 4), (6, 5, 1, 4)),
    "patches": (conv, (600, 2, 2, 16), (3, 3, 16, 4)),
    "xla": (conv, (2, 20, 20, 8), (3, 3, 8, 4)),
    "xla in groups": (functools.partial(conv, groups=2), (2, 20, 20, 16), (3, 3, 8, 4)),
    "dilated": (functools.partial(conv, dilation=2), (2, 20, 20, 8), (3, 3, 8, 4)),
    "mirror": (functools.partial(conv, padding="mirror"), (2, 20, 20, 8), (3, 3, 8, 4)),
    "periodic": (functools.partial(conv, padding="periodic"), (2, 20, 20, 1), (3, 3, 1, 4)),
    "pointwise": (conv, (4, 12, 12, 5), (1, 1, 5, 4)),
    "pointwise of many rows": (conv, (8, 16, 17, 5), (1, 1, 5, 4)),
    "one axis": (conv, (4, 200, 8), (5, 8, 4)),
    "three axes": (conv, (2, 8, 8, 8, 2), (3, 3, 3, 2, 4)),
    "onednn": (lambda x, k: conv_by_onednn(x, k, ONE, SAME, ONE, 1), (2, 20, 20, 8), (3, 3, 8, 4)),
    "by taps": (lambda x, k: conv_by_taps(x, k, ONE, SAME, ONE, 1), (2, 20, 20, 2), (3, 3, 2, 4)),
    "by shifts": (lambda x, k: conv_by_shifts(x, k, SAME), (2, 20, 20, 2), (3, 3, 2, 4)),
    "sum of shifts": (lambda x, k: sum_of_shifts(x, k, SAME, 2), (2, 20, 20, 2), (3, 3, 2, 4)),
    "by patches": (lambda x, k: conv_by_patches(x, k, ONE, SAME, ONE), (2, 20, 20, 2), (3, 3, 2, 4)),
    "by xla": (lambda x, k: conv_by_xla(x, k, ONE, SAME, ONE), (2, 20, 20, 2), (3, 3, 2, 4)),
    "depthwise in the kernel": (lambda x, k: depthwise_in_kernel(x, k, SAME), (2, 20, 20, 4), (3, 3, 1, 4)),
    "moved taps": (lambda x, k: sum_of_moved_taps(x, k, SAME), (2, 20, 20, 4), (3, 3, 1, 4)),
    "blocks": (lambda x, k: conv_by_blocks(x, k, 2), (2, 40, 40, 2), (4, 4, 2, 4)),
    "mirrored blocks": (lambda x, k: conv_by_blocks(x, k, 2, "mirror"), (2, 40, 40, 2), (4, 4, 2, 4)),
    "transposed": (conv_transpose, (2, 20, 20, 4), (3, 3, 2, 4)),
    "transposed by blocks": (functools.partial(conv_transpose, stride=2), (2, 20, 20, 4), (4, 4, 2, 4)),
    "transposed in groups": (functools.partial(conv_transpose, groups=4), (2, 20, 20, 4), (3, 3, 1, 4)),
    "few rows": (row_product, (500, 5), (5, 4)),
    "many rows": (row_product, (8, 300, 5), (5, 4)),
    "affine": (dense, (8, 300, 5), (5, 4)),
    "correlation": (correlate, (600,), (5,)),
    "convolution": (convolve, (20, 20), (3, 4)),
    "by Fourier": (fft_convolve, (600,), (5,)),
    "circular": (circular_convolve, (600,), (600,)),
}
"""name: (function of x and kernel, their shapes); together they take every branch that a convolution can."""

LAYERS = {
    "dense": (Dense(4), (8, 20, 20, 3)),
    "conv": (Conv(4, 3), (2, 20, 20, 8)),
    "conv_taps": (Conv(4, 3), (2, 20, 20, 1)),
    "conv_transpose": (ConvTranspose(4, 4, stride=2), (2, 20, 20, 3)),
    "block_conv": (BlockConv(4, 4, stride=2), (4, 32, 32, 3)),
    "batch_norm": (BatchNorm(), (2, 20, 20, 3)),
    "layer_norm": (LayerNorm(), (2, 20, 20, 3)),
    "group_norm": (GroupNorm(2), (2, 20, 20, 4)),
    "instance_norm": (InstanceNorm(), (2, 20, 20, 3)),
    "layer_scale": (LayerScale(0.5), (2, 20, 20, 3)),
    "position_bias": (PositionBias(), (700, 3)),
    "group_lift": (GroupLift(2, 3), (2, 20, 20, 3)),
    "group_conv": (GroupConv(2, 3), (2, 14, 14, 4, 2)),
    "avg_pool": (AvgPool(3, stride=1, padding=1), (2, 9, 9, 2)),
    "global_avg_pool": (GlobalAvgPool(), (2, 30, 30, 2)),
}

HALF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
"""Half a unit in the last place, relative: what rounding once may change."""

NARROW = ("bfloat16", "float16", "float32", "uint8", "int32")

PAIRS = [(a, b) for a in NARROW for b in ("bfloat16", "float32")] + [("bfloat16", "float16"), ("int8", "uint8")]

SELDOM = (
    *("taps with stride", "xla in groups", "dilated", "periodic", "pointwise of many rows", "one axis", "three axes"),
    *("on cpu", "by taps", "by patches", "by xla", "depthwise in the kernel", "moved taps", "mirrored blocks"),
    *("transposed", "transposed in groups", "few rows", "affine", "correlation", "convolution", "circular"),
)
"""Compiled in the slow proofs alone: others take the same branches."""

COMPILED = [pytest.param(name, marks=pytest.mark.slow) if name in SELDOM else name for name in WAYS]

HALVES = pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])

ROUNDED_TWICE = ("mirror", "periodic", "blocks", "mirrored blocks", "transposed by blocks", "block_conv")
"""A product, and then the sum of those of its results that belong to one cell."""


def expected(*names):
    """The rule once more, in words of its own: the widest range and the most digits of what is floating."""
    floats = {name for name in names if "float" in name}
    if "float64" in floats:
        return "float64"
    return floats.pop() if len(floats) == 1 else "float32"


def shaped(shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype)


def drawn(shape, seed, dtype="float32"):
    """Positive numbers, whose sums cannot cancel, that the dtype holds exactly."""
    return jnp.asarray(np.random.default_rng(seed).uniform(0.25, 1.0, shape), jnp.float32).astype(dtype)


@pytest.mark.sampled
@pytest.mark.parametrize("name", WAYS)
def test_every_way_has_the_promoted_dtype(name):
    function, *shapes = WAYS[name]
    for left, right in PAIRS:
        found = jax.eval_shape(function, *map(shaped, shapes, (left, right)))
        assert found.dtype == expected(left, right), (left, right)


@pytest.mark.parametrize("name", WAYS)
def test_every_way_in_float64_beside_other_dtypes(name):
    function, *shapes = WAYS[name]
    with jax.enable_x64(True):
        for other in ("bfloat16", "float32", "int64"):
            for dtypes in ((other, "float64"), ("float64", other)):
                assert jax.eval_shape(function, *map(shaped, shapes, dtypes)).dtype == jnp.float64, dtypes


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("dtypes", [("uint8", "float32"), ("bfloat16", "float32"), ("float32", "float16")], ids=str)
def test_every_way_promotes_before_it_computes(name, dtypes):
    function, *shapes = WAYS[name]
    small = [(2, *shape[1:]) if len(shape) > 2 and i == 0 else shape for i, shape in enumerate(shapes)]
    x, kernel = (
        (10 * drawn(shape, i)).astype(dtype) for i, (shape, dtype) in enumerate(zip(small, dtypes, strict=True))
    )
    function = jax.jit(function)
    given, wide = function(x, kernel), function(x.astype(jnp.float32), kernel.astype(jnp.float32))
    # Two programs, whose sums some CPUs order differently: by units in the last place, far below those of float16.
    np.testing.assert_allclose(given, wide, rtol=1e-6, atol=1e-6 * np.abs(wide).max())


@pytest.mark.sampled
@HALVES
@pytest.mark.parametrize("name", COMPILED)
def test_gradients_of_every_way_are_sums_in_single_precision_rounded_once(name, dtype):
    function, *shapes = WAYS[name]
    arrays = [drawn(shape, i, dtype) for i, shape in enumerate(shapes)]

    @jax.jit
    def both(*arrays):
        y, back = jax.vjp(function, *arrays)
        return y, back(jnp.ones_like(y))

    wide = both(*(array.astype(jnp.float32) for array in arrays))
    tolerance = 1.01 * HALF[dtype] * (1 + (name in ROUNDED_TWICE))
    for found, exact in zip(*map(jax.tree.leaves, (both(*arrays), wide)), strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=tolerance)


@pytest.mark.sampled
@HALVES
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_every_layer_are_sums_in_single_precision_rounded_once(name, dtype):
    model, shape = LAYERS[name]
    params, state = jax.jit(model.init)(jax.random.key(0), drawn(shape, 0))
    # The gradient of the output: whole numbers, which all dtypes hold.
    params, x = jax.tree.map(lambda p: drawn(p.shape, 1, dtype).astype(jnp.float32), params), drawn(shape, 2, dtype)
    weight = np.random.default_rng(3).integers(1, 4, jax.eval_shape(model.apply, params, state, x)[0].shape)

    def gradient(model):
        loss = lambda p, x: (model.apply(p, state, x, train=True)[0].astype(jnp.float32) * weight).sum()  # noqa: E731
        return jax.jit(jax.grad(loss))(params, x.astype(jnp.float32))

    tolerance = 1.01 * HALF[dtype] * (1 + (name in ROUNDED_TWICE))

    def check(found, exact):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, rtol=tolerance, atol=1e-3 * np.abs(exact).max())

    jax.tree.map(check, gradient(compute_in(model, jnp.dtype(dtype))), gradient(model))


def test_gradients_of_bias_and_table_by_counting():
    model = compute_in(Conv(8, 3), jnp.bfloat16)
    x = jnp.ones((8, 32, 32, 16))
    params = jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), jax.eval_shape(model.init, jax.random.key(0), x)[0])
    bias = jax.grad(lambda bias: model.apply({**params, "bias": bias}, {}, x)[0].sum())(params["bias"])
    np.testing.assert_array_equal(bias, np.full(8, 8192.0))
    ids = jnp.asarray([0] * 1000 + [2] * 500)
    table = jax.grad(lambda table: embedding(ids, table).astype(jnp.float32).sum())(jnp.zeros((3, 2), jnp.bfloat16))
    np.testing.assert_array_equal(table.astype(jnp.float32), [[1000, 1000], [0, 0], [500, 500]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "path", "inputs"),
    [
        (TimeBlock(2, 3), ("film", "bias"), (drawn((1, 40, 40, 2), 0), drawn((1, 4), 1))),
        (GatedLayer(3, 3, classes=2), ("label", "embedding"), (*[drawn((1, 40, 40, 3), 0)] * 2, jnp.asarray([1]))),
    ],
    ids=["time", "label"],
)
def test_what_is_told_at_every_position_has_a_sum_in_single_precision_for_gradient(model, path, inputs):
    params, state = jax.jit(model.init)(jax.random.key(0), *inputs)
    params = jax.tree.map(lambda p: 0.1 * drawn(p.shape, 2), params)

    def slope(model):
        loss = lambda p: sum(y.sum() for y in jax.tree.leaves(model.apply(p, state, *inputs)[0]))  # noqa: E731
        part, leaf = path
        return jax.jit(jax.grad(loss))(params)[part][leaf]

    found, exact = slope(compute_in(model, jnp.bfloat16)), slope(model)
    np.testing.assert_allclose(found, exact, rtol=0.03, atol=0.03 * np.abs(exact).max())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALF)
def test_overlapping_maxima_sum_their_gradients_in_single_precision(dtype):
    x = jnp.zeros((1, 40, 40, 1), dtype).at[0, 20, 20, 0].set(1)
    slope = jax.grad(lambda x: (1.125 * max_pool(x, 39, stride=1)).astype(jnp.float32).sum())(x)
    np.testing.assert_array_equal(slope[0, 20, 20, 0].astype(jnp.float32), 4 * 1.125)
    x = jnp.zeros((1, 700, 1), dtype).at[0, 350, 0].set(1)
    slope = jax.grad(lambda x: max_pool(x, 101, stride=1, padding=50).astype(jnp.float32).sum())(x)
    assert slope[0, 350, 0] == 101
    slope = jax.grad(lambda x: max_pool(x, 601, stride=1, padding=300).astype(jnp.float32).sum())(x)
    np.testing.assert_allclose(slope[0, 350, 0].astype(jnp.float32), 601, rtol=HALF[dtype])


@pytest.mark.sampled
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_the_promoted_dtype_and_keeps_its_state(name):
    model, shape = LAYERS[name]
    params, state = jax.eval_shape(model.init, jax.random.key(0), shaped(shape, jnp.float32))

    def check(kind, given):
        at = jax.tree.map(lambda p: shaped(p.shape, kind), params)
        run = lambda p, s, x: model.apply(p, s, x, train=True)  # noqa: E731
        y, new = jax.eval_shape(run, at, state, shaped(shape, given))
        assert y.dtype == expected(given, *[kind] * bool(params)), (kind, given)
        assert jax.tree.map(lambda s: s.dtype, new) == jax.tree.map(lambda s: s.dtype, state)

    for given, kind in PAIRS[:-2]:
        check(kind, given)
    with jax.enable_x64(True):
        for kind, given in (
            ("float32", "float64"),
            ("float64", "float32"),
            ("float32", "float32"),
        ):
            check(kind, given)


@pytest.mark.parametrize("name", ["dense", "conv_taps", "batch_norm", "layer_scale", "avg_pool"])
@pytest.mark.parametrize("dtype", ["uint8", pytest.param("int32", marks=pytest.mark.slow)])
def test_layers_take_integers_for_numbers(name, dtype):
    model, shape = LAYERS[name]
    x = jnp.asarray(np.random.default_rng(0).integers(0, 255, (2, *shape[1:])), dtype)
    params, state = jax.jit(model.init)(jax.random.key(0), x)
    apply = jax.jit(lambda x: model.apply(params, state, x, train=True))
    jax.tree.map(np.testing.assert_array_equal, apply(x), apply(x.astype(jnp.float32)))


@pytest.mark.parametrize("name", LAYERS)
def test_single_precision_pays_nothing(name):
    """Not one conversion: the computation is what it was without the rule."""
    model, shape = LAYERS[name]
    params, state = jax.eval_shape(model.init, jax.random.key(0), shaped(shape, jnp.float32))
    loss = lambda p, x: jnp.square(model.apply(p, state, x)[0]).sum()  # noqa: E731
    state = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), state)
    jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1)))(params, shaped(shape, jnp.float32))
    converted = [e.outvars[0].aval.shape for e, *_ in equations(jaxpr) if e.primitive.name == "convert_element_type"]
    assert not any(converted)


@pytest.mark.parametrize(
    "name",
    [
        "dense",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("conv", "conv_taps", "group_norm", "avg_pool")),
    ],
)
def test_other_derivatives_in_half_precision(name):
    model, shape = LAYERS[name]
    half, x = compute_in(model, jnp.bfloat16), drawn((2, *shape[1:]), 2, jnp.bfloat16).astype(jnp.float32)
    params, state = jax.jit(model.init)(jax.random.key(0), x)
    params = jax.tree.map(lambda p: drawn(p.shape, 1, jnp.bfloat16).astype(jnp.float32), params)

    def derivatives(model):
        mean = lambda p, x: jnp.square(model.apply(p, state, x)[0]).mean()  # noqa: E731
        along = jax.jvp(jax.grad(mean), (params, x), (params, x))[1]
        each = jax.vmap(jax.grad(mean), (None, 0))(params, x[:, None])
        return jax.jvp(lambda p, x: model.apply(p, state, x)[0], (params, x), (params, x))[1], along, each

    def check(found, exact):
        np.testing.assert_allclose(found, exact, rtol=0.05, atol=0.05 * np.abs(exact).max())

    jax.tree.map(check, *(jax.jit(derivatives, static_argnums=0)(m) for m in (half, model)))


def test_complex_numbers_are_refused():
    x = jnp.ones((1, 4, 4, 2), jnp.complex64)
    for function, *rest in ((conv_by_xla, jnp.ones((3, 3, 2, 4)), ONE, SAME, ONE), (row_product, jnp.ones((2, 3)))):
        with pytest.raises(ValueError, match="complex64 and float32 have no common real dtype"):
            function.__wrapped__(x, *rest)


def test_the_matrix_of_a_convolution_sums_in_single_precision():
    kernel = drawn((5, 1, 1), 0, jnp.bfloat16)
    options = {"padding": "periodic", "dilation": 4}
    matrix = jax.eval_shape(lambda k: conv_matrix(k, (700,), **options), kernel)
    assert matrix.dtype == jnp.bfloat16
    slope = jax.jit(jax.grad(lambda k: conv_matrix(k, (700,), **options).astype(jnp.float32).sum()))(kernel)
    np.testing.assert_allclose(slope.astype(jnp.float32), 700, rtol=2.0**-8)


def test_a_scanned_block_promotes_as_its_copies_in_series_do():
    x = drawn((4, 3), 0, jnp.bfloat16)
    block = serial(Dense(3), LayerNorm())
    outs = []
    for unroll in (True, False):
        model = scan(block, 3, unroll=unroll)
        params, state = jax.jit(model.init)(jax.random.key(0), x)
        outs.append(jax.jit(model.apply)(params, state, x)[0])
        assert outs[-1].dtype == jnp.float32
    np.testing.assert_allclose(*outs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.complex64])
def test_computing_in_what_is_not_floating_is_refused(dtype):
    with pytest.raises(ValueError, match="no floating dtype"):
        compute_in(Dense(3), dtype)
