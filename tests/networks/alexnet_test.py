"""AlexNet (lecture 16)."""

import jax
import jax.numpy as jnp
import pytest

from dlcore.networks import AlexNet, AlexNetConfig
from dlcore.nn import activations


def sizes(config, pixels):
    net, x = AlexNet(config), jax.ShapeDtypeStruct((1, pixels, pixels, 3), jnp.float32)
    params, state = jax.eval_shape(net.init, jax.random.key(0), x)
    return {
        k: v.shape[1] for k, v in jax.eval_shape(lambda p, s, x: activations(net, p, s, x)[1], params, state, x).items()
    }


def test_sizes_of_the_maps():
    found = sizes(AlexNetConfig(), 224)
    names = ("conv_1", "pool_1", "conv_2", "pool_2", "conv_5", "pool_5")
    assert [found[f"features/{name}"] for name in names] == [55, 27, 27, 13, 13, 6]
    small = sizes(AlexNetConfig(stem="small"), 28)
    assert [small[f"features/{name}"] for name in names] == [28, 14, 14, 7, 7, 3]


def test_what_it_refuses():
    with pytest.raises(ValueError, match="stem must be one of imagenet, small, got 'tiny'"):
        AlexNetConfig(stem="tiny")
    with pytest.raises(ValueError, match="five"):
        AlexNetConfig(channels=(3, 4))
