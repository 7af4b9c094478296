"""Densely connected networks (lecture 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks.densenet import DenseNet, DenseNetConfig, Layer, densenet_config
from dlcore.nn.combine import activations


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


def test_channels_grow_and_are_halved_between_blocks():
    net = DenseNet(DenseNetConfig(growth=4, first=6, layers=(3, 2, 1), classes=3, stem="small"))
    x = jax.ShapeDtypeStruct((2, 28, 28, 1), jnp.float32)
    params, state = jax.eval_shape(net.init, jax.random.key(0), x)
    found = jax.eval_shape(lambda p, s, x: activations(net, p, s, x)[1], params, state, x)
    names = ("stem", "block_1", "transition_1", "block_2", "transition_2", "block_3", "norm")
    assert [found[n].shape[1] for n in names] == [28, 28, 14, 14, 7, 7, 7]
    assert [found[n].shape[-1] for n in names] == [6, 18, 9, 17, 8, 12, 12]


def test_dropout_needs_a_key_and_another_depth_is_refused():
    layer, x = Layer(DenseNetConfig(growth=3, dropout=0.5)), jnp.ones((2, 4, 4, 5))
    params, state = layer.init(jax.random.key(1), x)
    with pytest.raises(ValueError, match="key"):
        layer.apply(params, state, x, train=True)
    with pytest.raises(ValueError, match="121, 161, 169, 201, got 100"):
        densenet_config(100)
