"""Convolutions of oneDNN against sums written out in float64, under every transformation (lecture 14.1–14.5)."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from dlcore.nn import conv, conv_by_blocks, conv_transpose, convolutions_by, convolves, flops
from dlcore.nn._conv.lowering import onednn, onednn_library, shifts, table
from dlcore.nn._conv.lowering.onednn import conv_by_onednn
from dlcore.nn._conv.lowering.xla import conv_by_xla
from dlcore.parallel.mesh import make_mesh

needed = pytest.mark.skipif(bool(onednn_library.status()), reason=onednn_library.status() or "oneDNN")

CASES = [
    # x, window, outputs, stride, zeros around, dilation, groups
    ((3, 7, 2), (3,), 4, (2,), ((1, 2),), (1,), 1),
    ((2, 9, 4), (2,), 6, (1,), ((0, 3),), (3,), 2),
    ((5, 6, 7, 3), (3, 2), 8, (1, 1), ((1, 1), (0, 1)), (1, 1), 1),
    ((3, 8, 7, 3), (3, 3), 5, (2, 1), ((0, 1), (2, 0)), (1, 2), 1),
    ((2, 7, 6, 3), (3, 2), 4, (1, 2), ((2, 1), (0, 1)), (2, 1), 1),
    ((2, 6, 6, 1), (4, 4), 9, (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    ((2, 5, 6, 6), (3, 3), 6, (1, 1), ((1, 1), (1, 1)), (1, 1), 6),
    ((2, 7, 6, 4), (3, 3), 8, (2, 2), ((2, 1), (1, 1)), (2, 1), 4),
    ((2, 5, 5, 8), (1, 1), 3, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 5, 8, 8), (1, 1), 3, (2, 3), ((0, 0), (0, 0)), (1, 1), 1),
    ((2, 5, 4, 6), (1, 1), 3, (2, 1), ((1, 0), (0, 2)), (1, 1), 1),
    ((3, 5, 6), (1,), 4, (2,), ((0, 0),), (1,), 1),
    ((2, 4, 4, 16), (3, 3), 16, (1, 1), ((4, 4), (0, 5)), (1, 1), 2),
    ((2, 4, 5, 3, 2), (2, 3, 2), 4, (1, 2, 1), ((1, 0), (1, 1), (0, 1)), (1, 1, 2), 1),
    ((2, 3, 4, 3, 4), (2, 2, 2), 8, (1, 1, 1), ((0, 1), (0, 0), (1, 1)), (1, 1, 1), 4),
]


def draw(shape, window, outputs, groups=1, seed=0):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(*window, shape[-1] // groups, outputs))
    return jnp.asarray(rng.normal(size=shape), jnp.float32), jnp.asarray(kernel, jnp.float32)


def sums(x, kernel, dy, stride, widths, dilation, groups):
    """Value and both gradients, product by product in float64; `dy` is a function of the value's shape."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    window, features = kernel.shape[:-2], kernel.shape[-1]
    padded = np.pad(x, [(0, 0), *widths, (0, 0)])
    sizes = zip(padded.shape[1:-1], window, stride, dilation, strict=True)
    space = [(n - (w - 1) * d - 1) // s + 1 for n, w, s, d in sizes]
    value = np.zeros((len(x), *space, features))
    dy = dy(value.shape)
    dx, dkernel = np.zeros(padded.shape), np.zeros(kernel.shape)
    inputs, outputs = x.shape[-1] // groups, features // groups
    for p in np.ndindex(*space):
        for tap in np.ndindex(*window):
            cell = tuple(i * s + t * d for i, s, t, d in zip(p, stride, tap, dilation, strict=True))
            for g in range(groups):
                seen = (slice(None), *cell, slice(g * inputs, (g + 1) * inputs))
                made = (slice(None), *p, slice(g * outputs, (g + 1) * outputs))
                weights = kernel[(*tap, slice(None), made[-1])]
                value[made] += padded[seen] @ weights
                dx[seen] += dy[made] @ weights.T
                dkernel[(*tap, slice(None), made[-1])] += padded[seen].T @ dy[made]
    inner = tuple(slice(low, low + n) for (low, _), n in zip(widths, x.shape[1:-1], strict=True))
    return value, dx[(slice(None), *inner)], dkernel, dy


@pytest.fixture(params=[False, True], ids=["patches", "own kernels"])
def avx512(request, monkeypatch):
    """Both ways to the gradient of the kernel, of which a CPU has one by itself."""
    monkeypatch.setattr(onednn_library, "avx512", lambda: request.param)
    jax.clear_caches()


@pytest.mark.sampled
@needed
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_the_sums(avx512, case):
    shape, window, outputs, *options = case
    x, kernel = draw(shape, window, outputs, options[-1])
    rng = np.random.default_rng(1)
    value, dx, dkernel, dy = sums(x, kernel, lambda shape: rng.normal(size=shape), *options)
    found, back = jax.vjp(lambda x, k: conv_by_onednn(x, k, *options), x, kernel)
    for array, exact in zip((found, *back(jnp.asarray(dy, jnp.float32))), (value, dx, dkernel), strict=True):
        np.testing.assert_allclose(array, exact, rtol=1e-5, atol=2e-5)


@needed
@pytest.mark.parametrize("images", [8, 9])
@pytest.mark.parametrize(("side", "groups"), [(3, 1), (3, 2), (1, 1)])
def test_parts_of_the_batch_are_the_batch(monkeypatch, avx512, images, side, groups):
    x, kernel = draw((images, 6, 5, 4), (side, side), 6, groups)
    options = ((1, 1), ((side // 2,) * 2,) * 2, (1, 1), groups)

    def everything():
        y, back = jax.vjp(lambda x, k: conv_by_onednn(x, k, *options), x, kernel)
        return [y, *back(jnp.cos(y))]

    monkeypatch.setattr(onednn, "_parts", lambda *_: 1)
    whole = everything()
    monkeypatch.setattr(onednn, "_parts", lambda *_: 4)
    jax.clear_caches()
    for a, b in zip(everything(), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@needed
@pytest.mark.parametrize("parts", [2, 8, 16])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 150), (150, 3), (7, 5)])
def test_blocks_of_a_product_are_the_product(monkeypatch, parts, inputs, outputs):
    monkeypatch.setattr(onednn, "_parts", lambda *_: parts)
    x, kernel = draw((2, 7, 3, inputs), (1, 1), outputs)
    y, back = jax.vjp(lambda x, k: conv_by_onednn(x, k, (1, 1), ((0, 0), (0, 0)), (1, 1)), x, kernel)
    dy = draw(y.shape, (1, 1), 1, seed=1)[0]
    rows, matrix, slope = (
        np.asarray(array, np.float64).reshape(-1, array.shape[-1]) for array in (x, kernel[0, 0], dy)
    )
    for found, exact in zip((y, *back(dy)), (rows @ matrix, slope @ matrix.T, rows.T @ slope), strict=True):
        np.testing.assert_allclose(found, exact.reshape(found.shape), rtol=1e-5, atol=2e-5)


@pytest.mark.slow
@needed
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(96, 200, 1), (200, 96, 1), (192, 384, 3)])
def test_large_kernels_are_put_in_order_in_parts(inputs, outputs, groups):
    """Kernels are laid out anew for oneDNN in several tasks; channels that fill no whole block are in the last."""
    x, kernel = draw((2, 6, 6, inputs), (3, 3), outputs, groups)
    options = ((1, 1), ((1, 1), (1, 1)), (1, 1), groups)
    assert kernel.size > 2 * 2**16
    rng = np.random.default_rng(1)
    value, dx, dkernel, dy = sums(x, kernel, lambda shape: rng.normal(size=shape), *options)
    found, back = jax.vjp(lambda x, k: conv_by_onednn(x, k, *options), x, kernel)
    for array, exact in zip((found, *back(jnp.asarray(dy, jnp.float32))), (value, dx, dkernel), strict=True):
        np.testing.assert_allclose(array, exact, rtol=1e-4, atol=2e-4)


@needed
def test_parts_follow_shapes_alone():
    x, kernel = jnp.zeros((96, 32, 32, 16)), jnp.zeros((3, 3, 16, 16))
    geometry = onednn.Geometry((32, 32), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert onednn._parts(onednn.VALUE, (x, kernel), x, geometry) == 8
    few = onednn._parts(onednn.KERNEL, (x[:, :4, :4], x[:, :4, :4]), kernel, geometry._replace(space=(4, 4)))
    assert few <= 96 * 4 * 4 // onednn.POSITIONS + 1


@needed
def test_equal_bits_twice_and_beside_other_work():
    x, kernel = draw((64, 16, 16, 32), (3, 3), 32)
    gradient = jax.jit(jax.grad(lambda k, x: jnp.square(conv_by_onednn(x, k, (1, 1), ((1, 1),) * 2, (1, 1))).sum()))
    first = np.asarray(gradient(kernel, x))
    several = [gradient(*jax.device_put((kernel, x), device)) for device in jax.devices() for _ in range(3)]
    for found in several:
        np.testing.assert_array_equal(found, first)


def everything(function, x, kernel):
    """Value, gradient and its derivatives: along a direction, and backwards once more."""

    def loss(x, kernel):
        return jnp.sin(function(x, kernel)).mean()

    def along(x, kernel):
        return jax.jvp(jax.grad(loss, argnums=(0, 1)), (x, kernel), (jnp.cos(x), jnp.sin(kernel)))

    def penalty(x, kernel):
        return sum(jnp.square(slope).sum() for slope in jax.grad(loss, argnums=(0, 1))(x, kernel))

    return function(x, kernel), along(x, kernel), jax.grad(penalty, argnums=(0, 1))(x, kernel)


OPTIONS = ((2, 1), ((1, 0), (2, 1)), (1, 2), 2)
PRODUCT = ((2, 1), ((0, 0), (0, 0)), (1, 1), 1)
"""Of a window of one cell, which is a matrix product."""


def assert_both_agree(transform, *arrays, options=OPTIONS):
    ways = (conv_by_onednn, conv_by_xla)
    found, expected = (jax.jit(transform(lambda x, k, way=way: way(x, k, *options)))(*arrays) for way in ways)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), found, expected)


@needed
def test_derivatives_of_second_order():
    x, kernel = draw((2, 6, 7, 4), (3, 2), 6, 2)
    assert_both_agree(lambda f: lambda x, k: everything(f, x, k), x, kernel)
    assert_both_agree(lambda f: lambda x, k: everything(f, x, k), x, draw(x.shape, (1, 1), 6)[1], options=PRODUCT)
    assert_both_agree(lambda f: jax.hessian(lambda k, x: jnp.sin(f(x, k)).sum()), kernel[..., :1, :4], x[:, :, :, :2])


@pytest.mark.sampled
@needed
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (2, 3), (1, 1)], ids=str)
@pytest.mark.parametrize(("window", "options"), [((3, 2), OPTIONS), ((1, 1), PRODUCT)], ids=["window", "product"])
def test_vmap(axes, window, options):
    x, kernel = draw((2, 6, 7, 4), window, 6, options[-1])
    stacked = [
        a if axis is None else jnp.stack([a, a + 1, 2 * a], axis) for a, axis in zip((x, kernel), axes, strict=True)
    ]
    assert_both_agree(lambda f: jax.vmap(lambda x, k: everything(f, x, k), axes), *stacked, options=options)


@needed
def test_scan_and_remat():
    x, kernel = draw((2, 5, 5, 4), (3, 3), 4)

    def loss(way):
        step = jax.checkpoint(lambda x, k: (jnp.tanh(way(x, k, (1, 1), ((1, 1), (1, 1)), (1, 1))), None))
        return lambda ks, x: jax.lax.scan(step, x, ks)[0].sum()

    kernels = jnp.stack([kernel, -kernel, kernel / 2])
    found, expected = (jax.jit(jax.grad(loss(way)))(kernels, x) for way in (conv_by_onednn, conv_by_xla))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@needed
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_rounded_once(dtype):
    x, kernel = (array.astype(dtype) for array in draw((4, 9, 8, 32), (3, 3), 16))
    options = ((1, 1), ((1, 1), (1, 1)), (1, 1))

    def gradients(way, *arrays):
        y, back = jax.vjp(lambda x, k: way(x, k, *options), *arrays)
        return [y, *back(jnp.ones_like(y))]

    wide = [array.astype(jnp.float32) for array in (x, kernel)]
    found, exact = gradients(conv_by_onednn, x, kernel), gradients(conv_by_xla, *wide)
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=2**-8, atol=2e-2)


@needed
@pytest.mark.parametrize(("window", "stride", "groups"), [(4, 2, 1), (3, 2, 2), (3, 1, 1)])
def test_transposed_layer(window, stride, groups):
    y, kernel = draw((2, 4, 5, 6), (window, window), 6, 1)
    kernel = kernel[:, :, : 4 // groups]
    with convolutions_by("onednn"):
        found = conv_transpose(y, kernel, stride=stride, groups=groups)
    with convolutions_by("xla"):
        np.testing.assert_allclose(found, conv_transpose(y, kernel, stride=stride, groups=groups), rtol=1e-4, atol=1e-4)


@needed
def test_blocks_go_the_same_way():
    x, kernel = draw((2, 6, 8, 6), (4, 4), 5)
    found = {}
    for name in ("onednn", "-onednn"):
        with convolutions_by(name):
            jaxpr = jax.make_jaxpr(lambda x, k: conv_by_blocks(x, k, 2, "mirror"))(x, kernel)
            assert ("conv_value" in str(jaxpr)) == (name == "onednn")
            found[name] = conv_by_blocks(x, kernel, 2, "mirror")
    np.testing.assert_allclose(found["onednn"], found["-onednn"], rtol=1e-5, atol=1e-5)


def loss_and_gradients(x, kernel):
    value = lambda x, k: jnp.square(conv_by_onednn(x, k, (1, 1), ((1, 1), (1, 1)), (1, 1))).mean()  # noqa: E731
    return jax.value_and_grad(value, (0, 1))(x, kernel)


@needed
def test_a_batch_spread_over_eight_devices():
    x, kernel = draw((16, 6, 6, 4), (3, 3), 8)
    expected = jax.jit(loss_and_gradients)(x, kernel)
    spread = jax.device_put(x, NamedSharding(make_mesh(8), PartitionSpec("data")))
    program = jax.jit(loss_and_gradients).lower(spread, kernel).compile()
    assert program.output_shardings[1][0].is_equivalent_to(spread.sharding, 4)
    assert "all-gather" not in program.as_text()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), program(spread, kernel), expected)


@needed
def test_each_device_its_part_by_shard_map():
    x, kernel = draw((16, 6, 6, 4), (3, 3), 8)
    mesh, data = make_mesh(8), PartitionSpec("data")

    def part(x, kernel):
        value, (dx, dkernel) = loss_and_gradients(x, kernel)
        return jax.lax.pmean(value, "data"), dx / 8, dkernel / 8

    specs = {"in_specs": (data, PartitionSpec()), "out_specs": (PartitionSpec(), data, PartitionSpec())}
    mapped = jax.jit(jax.shard_map(part, mesh=mesh, **specs))
    assert "dlcore_conv" in mapped.lower(x, kernel).as_text()
    value, (dx, dkernel) = jax.jit(loss_and_gradients)(x, kernel)
    for a, b in zip(mapped(x, kernel), (value, dx, dkernel), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@needed
def test_an_exported_program_holds_no_call_of_it():
    x, kernel = draw((4, 6, 6, 4), (3, 3), 8)
    step = jax.jit(jax.grad(lambda k, x: conv_by_onednn(x, k, (1, 1), ((1, 1),) * 2, (1, 1)).sum()))
    assert "dlcore_conv" in step.lower(kernel, x).as_text()
    batch = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, 6, 6, 4"), jnp.float32)
    each = jax.jit(lambda k, x: jax.vmap(lambda x: conv_by_onednn(x[None], k, (1, 1), ((1, 1),) * 2, (1, 1))[0])(x))
    exported = jax.export.export(each, platforms=("cpu", "cuda", "tpu"))(kernel, batch)
    assert "dlcore_conv" not in exported.mlir_module()
    np.testing.assert_allclose(exported.call(kernel, x), each(kernel, x), rtol=1e-5, atol=1e-5)


@needed
def test_operations_are_counted_and_loops_allowed():
    x, kernel = jnp.zeros((2, 7, 7, 4)), jnp.zeros((3, 3, 2, 6))
    f = lambda x, k: conv_by_onednn(x, k, (2, 2), ((1, 1), (1, 1)), (1, 1), 2)  # noqa: E731
    once = 2 * 2 * 4 * 4 * 9 * 2 * 6
    assert flops(jax.make_jaxpr(f)(x, kernel)) == once
    gradient = jax.make_jaxpr(jax.grad(lambda x, k: jnp.square(f(x, k)).sum(), (0, 1)))(x, kernel)
    assert flops(gradient) == 3 * once and not convolves(gradient)


@needed
def test_no_images():
    x, kernel = jnp.zeros((0, 6, 6, 4)), jnp.zeros((3, 3, 4, 8))
    assert conv_by_onednn(x, kernel, (1, 1), ((1, 1), (1, 1)), (1, 1)).shape == (0, 6, 6, 8)


RATIOS = {
    "16 to 16 channels at 32": ((64, 32, 32, 16), (3, 3), 16, {}, 2.8),
    "stride 2": ((64, 32, 32, 16), (3, 3), 32, {"stride": 2}, 2.1),
    "64 to 64 channels at 16": ((32, 16, 16, 64), (3, 3), 64, {}, 1.4),
    "depthwise 7": ((16, 28, 28, 96), (7, 7), 96, {"groups": 96}, 3.6),
    "four groups": ((8, 32, 32, 32), (3, 3), 32, {"groups": 4}, 60.0),
}
"""Gradients of a layer: how many times as fast as without oneDNN, in processor time on two cores of an AMD EPYC."""


@needed
@pytest.mark.slow
@pytest.mark.parametrize("name", RATIOS)
def test_as_much_faster_as_it_was(monkeypatch, name):
    for module in (table, shifts):
        monkeypatch.setattr(module, "on_one_device", lambda: True)
    shape, window, outputs, options, stored = RATIOS[name]
    x, kernel = draw(shape, window, outputs, options.get("groups", 1))
    steps = {}
    for way in ("onednn", "-onednn"):
        with convolutions_by(way):
            step = jax.jit(lambda x, k: jax.grad(lambda x, k: jnp.square(conv(x, k, **options)).sum(), (0, 1))(x, k))
            steps[way] = step.lower(x, kernel).compile()
    spent = {way: [] for way in steps}
    for turn in range(8):
        for way, step in steps.items():
            began = time.process_time()
            jax.block_until_ready([step(x, kernel) for _ in range(2)])
            if turn:
                spent[way].append(time.process_time() - began)
    ratio = statistics.median(spent["-onednn"]) / statistics.median(spent["onednn"])
    print(f"{name}: {ratio:.2f} times as fast as without oneDNN, {stored} when it was stored")
    assert ratio > 0.8 * stored
