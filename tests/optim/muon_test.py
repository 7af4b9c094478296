"""Muon against optax.contrib.muon, and its iteration against the singular value decomposition (lecture 7)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.optim import OptimizerConfig, make_optimizer, muon, orthogonalized
from dlcore.tree import is_weight, path_of, stacked

RNG = np.random.default_rng(0)
PARAMS = {
    "stage_1": {"conv": {"kernel": RNG.standard_normal((3, 3, 4, 6))}, "norm": {"scale": RNG.random(6) + 1}},
    "stage_2": {"conv": {"kernel": RNG.standard_normal((3, 3, 4, 6))}, "norm": {"scale": RNG.random(6) + 1}},
    "wide": {"kernel": RNG.standard_normal((3, 7)), "bias": RNG.standard_normal(7)},
    "tall": {"kernel": RNG.standard_normal((8, 2)), "bias": RNG.standard_normal(2)},
}
PARAMS = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), PARAMS)
GRADS = [jax.tree.map(lambda x, i=i: jnp.cos(3 * x + i), PARAMS) for i in range(4)]


def axes(params):
    """What optax must be told: kernels [*window, in, out] are matrices [window · in, out]."""

    def one(path, leaf):
        if not is_weight(path_of(path)):
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(one, params)


def walk(tx, params, grads):
    state, update = tx.init(params), jax.jit(tx.update)
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.slow
def test_it_walks_as_optax_does():
    rate = optax.linear_schedule(0.3, 0.1, 4)
    theirs = optax.contrib.muon(
        rate,
        beta=0.8,
        weight_decay=0.01,
        adam_learning_rate=lambda step: 0.2 * rate(step),
        adam_b1=0.7,
        adam_b2=0.95,
        muon_weight_dimension_numbers=axes,
    )
    ours = muon(rate, 0.8, vector_rate=0.2, weight_decay=0.01, b1=0.7, b2=0.95)
    ended = walk(ours, PARAMS, GRADS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), ended, walk(theirs, PARAMS, GRADS)
    )
    assert np.abs(ended["tall"]["kernel"] - PARAMS["tall"]["kernel"]).max() > 0.1, "it has moved"


@pytest.mark.slow
def test_by_name_in_a_config():
    config = OptimizerConfig(
        "muon", learning_rate=0.3, momentum=0.8, vector_rate=0.2, weight_decay=0.01, b1=0.7, b2=0.95
    )
    ours = walk(make_optimizer(config, 10), PARAMS, GRADS)
    direct = walk(muon(0.3, 0.8, vector_rate=0.2, weight_decay=0.01, b1=0.7, b2=0.95), PARAMS, GRADS)
    jax.tree.map(np.testing.assert_array_equal, ours, direct)
    with pytest.raises(ValueError, match="vector_rate must not be negative"):
        make_optimizer(OptimizerConfig("muon", vector_rate=-1.0), 10)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (3, 4, 4)])
def test_singular_values_go_where_the_quintic_takes_them(shape):
    x = RNG.standard_normal(shape)
    u, s, v = np.linalg.svd(x, full_matrices=False)
    s = s / np.sqrt(np.square(s).sum(-1, keepdims=True))
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert (np.abs(s - 1) < 0.4).all()
    np.testing.assert_allclose(orthogonalized(jnp.asarray(x, jnp.float32)), (u * s[..., None, :]) @ v, atol=2e-4)


def test_matrices_of_one_shape_are_one_computation():
    tx = muon(0.1)
    text = str(jax.make_jaxpr(tx.update)(GRADS[0], tx.init(PARAMS), PARAMS))
    assert text.count("dot_general[") == 3 * 3 * 5, "three products a step, five steps, three shapes of four matrices"


def test_copies_of_a_layer_are_matrices_of_their_own():
    kernels = RNG.standard_normal((3, 5, 4)).astype(np.float32)
    tree = {"blocks": stacked({"kernel": jnp.asarray(kernels)})}
    together = walk(muon(0.1), tree, [tree] * 2)["blocks"]["stacked"]["kernel"]
    for i, kernel in enumerate(kernels):
        alone = walk(muon(0.1), {"kernel": jnp.asarray(kernel)}, [{"kernel": jnp.asarray(kernel)}] * 2)["kernel"]
        np.testing.assert_allclose(together[i], alone, rtol=1e-5, atol=1e-5)


def test_a_gradient_of_zeros_moves_nothing():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, walk(muon(0.1), PARAMS, [zeros] * 2), PARAMS)
