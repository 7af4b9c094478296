"""Every model and network with double precision at hand: it starts, it runs, and its state keeps its dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract_table import MODELS
from network_table import ARCHITECTURES, SMALL, TINY

from dlcore.networks import DCDiscriminator, DCGenerator, TimeUNet

OTHERS = {
    "generator": (DCGenerator((8, 8, 1), (6, 4)), ((2, 5), "float")),
    "discriminator": (DCDiscriminator((4, 6), classes=3), ((2, 8, 8, 1), "float"), ((2,), "int")),
    "unet": (
        TimeUNet(3, widths=(4, 8), heads=2, classes=3, patch=2),
        ((2, 16, 16, 3), "float"),
        ((2,), "int"),
        ((2,), "int"),
    ),
}
"""name: (model, shape and kind of every input)."""

QUICK = ("lenet", "cifar_resnet20", "cifar_resnet20_b", "tiny_lenet", "tiny_vgg_bn", "tiny_resnet")

NETWORKS = {
    **{name: (case.model, case.input, case.integer) for name, case in MODELS.items()},
    **{f"tiny_{name}": (net.model, (2, net.pixels, net.pixels, 3), False) for name, net in TINY.items()},
    **{f"small_{name}": (model, (2, 28, 28, 1), False) for name, model in SMALL.items()},
    **{name: (net.model, (2, net.pixels, net.pixels, net.channels), False) for name, net in ARCHITECTURES.items()},
}
SLOW = [name for name in NETWORKS if name not in MODELS and name not in QUICK]
"""Tracing takes seconds each."""


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.sampled
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NETWORKS])
def test_with_double_precision_at_hand(name):
    model, shape, integer = NETWORKS[name]
    with jax.enable_x64(True):
        for dtype in (jnp.int64,) if integer else (jnp.float64, jnp.float32):
            x = jax.ShapeDtypeStruct(shape, dtype)
            params, state = jax.eval_shape(model.init, jax.random.key(0), x)
            assert {leaf.dtype for leaf in jax.tree.leaves((params, state))} <= {jnp.dtype("float32")}
            run = lambda p, s, x: model.apply(p, s, x, train=True, key=jax.random.key(1))  # noqa: E731
            y, after = jax.eval_shape(run, params, state, x)
            assert kinds(after) == kinds(state)
            single = integer or name == "bfloat16" or dtype == jnp.float32
            assert {leaf.dtype for leaf in jax.tree.leaves(y)} == {jnp.dtype("float32" if single else "float64")}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_networks_of_several_inputs_with_double_precision_at_hand(name):
    model, *inputs = OTHERS[name]
    with jax.enable_x64(True):
        for bits in (64, 32):
            given = [jax.ShapeDtypeStruct(shape, f"{kind}{bits}") for shape, kind in inputs]
            params, state = jax.eval_shape(model.init, jax.random.key(0), *given)
            assert {leaf.dtype for leaf in jax.tree.leaves((params, state))} == {jnp.dtype("float32")}
            run = lambda p, s, *given: model.apply(p, s, *given, train=True, key=jax.random.key(1))  # noqa: E731
            y, after = jax.eval_shape(run, params, state, *given)
            assert y.dtype == f"float{bits}" and kinds(after) == kinds(state)


@pytest.mark.sampled
@pytest.mark.parametrize("name", [n for n in NETWORKS if n in MODELS])
@pytest.mark.parametrize("dtype", ["uint8", "bfloat16"])
def test_images_of_other_dtypes_beside_params_of_single_precision(name, dtype):
    model, shape, integer = NETWORKS[name]
    if integer or not (
        jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))[0])
    ):
        return
    x = jax.ShapeDtypeStruct(shape, dtype)
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    run = lambda p, s, x: model.apply(p, s, x, train=True, key=jax.random.key(1))  # noqa: E731
    y, after = jax.eval_shape(run, params, state, x)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, y))} == {jnp.dtype("float32")}
    assert kinds(after) == kinds(state)


@pytest.mark.slow
def test_double_precision_gives_the_numbers_of_single():
    net = TINY["lenet"]
    x = np.random.default_rng(0).normal(size=(2, net.pixels, net.pixels, 3))
    params, state = jax.jit(net.model.init)(jax.random.key(0), jnp.asarray(x, jnp.float32))
    single = net.model.apply(params, state, jnp.asarray(x, jnp.float32))[0]
    with jax.enable_x64(True):
        double = net.model.apply(params, state, jnp.asarray(x))[0]
    assert double.dtype == jnp.float64
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)
