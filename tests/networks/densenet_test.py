"""Densely connected networks (lecture 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_layers as oracle
import pytest

from dlcore.networks import DenseNet, DenseNetConfig, densenet_config
from dlcore.networks._densenet import Layer
from dlcore.nn import activations


def test_the_number_in_the_name_counts_weighted_layers():
    for depth in (121, 161, 169, 201):
        layers = densenet_config(depth).layers
        assert 2 * sum(layers) + len(layers) - 1 + 2 == depth


def test_a_layer_keeps_what_it_sees_and_adds_growth_channels():
    layer, x = Layer(DenseNetConfig(growth=3)), jax.random.normal(jax.random.key(0), (2, 4, 4, 5))
    params, state = layer.init(jax.random.key(1), x)
    out, _ = layer.apply(params, state, x)
    np.testing.assert_array_equal(out[..., :5], x)
    assert out.shape == (2, 4, 4, 8) and params["new"]["conv_1"]["kernel"].shape == (1, 1, 5, 12)


@pytest.mark.slow
def test_channels_grow_and_are_halved_between_blocks():
    net = DenseNet(DenseNetConfig(growth=4, first=6, layers=(3, 2, 1), classes=3, stem="small"))
    x = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    params, state = jax.eval_shape(net.init, jax.random.key(0), x)
    found = jax.eval_shape(lambda p, s, x: activations(net, p, s, x)[1], params, state, x)
    names = ("stem", "block_1", "transition_1", "block_2", "transition_2", "block_3", "norm")
    assert [found[n].shape[1] for n in names] == [28, 28, 14, 14, 7, 7, 7]
    assert [found[n].shape[-1] for n in names] == [6, 18, 9, 17, 8, 12, 12]


@pytest.mark.slow
def test_the_whole_network_by_hand():
    config = DenseNetConfig(growth=2, first=4, layers=(2, 1), bottleneck=2, classes=3, stem="small")
    net, rng = DenseNet(config), np.random.default_rng(0)
    x = rng.normal(size=(2, 8, 8, 3))
    params, state = jax.eval_shape(net.init, jax.random.key(0), jnp.asarray(x))
    params = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
    state = jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape), state)

    def activated(h, part, running, suffix="", padding=0):
        h = oracle.batch_norm(h, part[f"norm{suffix}"], running[f"norm{suffix}"])
        return oracle.conv(oracle.relu(h), part[f"conv{suffix}"], padding=padding)

    def block(h, part, running):
        for name in sorted(part):
            new = activated(h, part[name]["new"], running[name]["new"], "_1")
            new = activated(new, part[name]["new"], running[name]["new"], "_2", padding=1)
            h = np.concatenate([h, new], -1)
        return h

    h = oracle.conv(x, params["stem"]["conv"], padding=1)
    h = oracle.relu(oracle.batch_norm(h, params["stem"]["norm"], state["stem"]["norm"]))
    h = block(h, params["block_1"], state["block_1"])
    h = oracle.halved(activated(h, params["transition_1"], state["transition_1"]))
    h = block(h, params["block_2"], state["block_2"])
    h = oracle.relu(oracle.batch_norm(h, params["norm"], state["norm"])).mean((1, 2))
    expected = oracle.dense(h, params["head"])
    with jax.enable_x64(True):
        out, _ = jax.jit(net.apply)(*jax.tree.map(jnp.asarray, (params, state)), jnp.asarray(x))
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-9)


def test_dropout_needs_a_key_and_another_depth_is_refused():
    layer, x = Layer(DenseNetConfig(growth=3, dropout=0.5)), jnp.ones((2, 4, 4, 5))
    params, state = layer.init(jax.random.key(1), x)
    with pytest.raises(ValueError, match="key"):
        layer.apply(params, state, x, train=True)
    with pytest.raises(ValueError, match="121, 161, 169, 201, got 100"):
        densenet_config(100)
