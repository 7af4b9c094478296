"""Every model and network with double precision at hand: it starts, it runs, and its state keeps its dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract_table import MODELS
from network_table import ARCHITECTURES, SMALL, TINY

QUICK = ("lenet", "cifar_resnet20", "cifar_resnet20_b")

NETWORKS = {
    **{name: (case.model, case.input, case.integer) for name, case in MODELS.items()},
    **{f"tiny_{name}": (net.model, (2, net.pixels, net.pixels, 3), False) for name, net in TINY.items()},
    **{f"small_{name}": (model, (2, 28, 28, 1), False) for name, model in SMALL.items()},
    **{name: (net.model, (2, net.pixels, net.pixels, net.channels), False) for name, net in ARCHITECTURES.items()},
}
SLOW = [name for name in NETWORKS if name.startswith("small_") or (name in ARCHITECTURES and name not in QUICK)]
"""Tracing takes seconds each."""


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


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


def test_double_precision_gives_the_numbers_of_single():
    net = TINY["lenet"]
    x = np.random.default_rng(0).normal(size=(2, net.pixels, net.pixels, 3))
    params, state = jax.jit(net.model.init)(jax.random.key(0), x.astype(np.float32))
    single = net.model.apply(params, state, x.astype(np.float32))[0]
    with jax.enable_x64(True):
        double = net.model.apply(params, state, jnp.asarray(x))[0]
    assert double.dtype == jnp.float64
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)
