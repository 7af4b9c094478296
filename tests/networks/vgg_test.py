"""VGG networks (lecture 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_table import TINY_VGG

from dlcore.networks import VGG, VGGConfig, vgg_config


@pytest.mark.slow
def test_a_bias_before_batch_norm_has_no_gradient_and_no_effect():
    net = VGG(VGGConfig(**TINY_VGG, stem="small", batch_norm=True, dropout=0.0))
    x = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))
    params, state = jax.jit(net.init)(jax.random.key(1), x)

    @jax.jit
    def run(params):
        return jnp.square(net.apply(params, state, x, train=True)[0]).sum()

    gradient = jax.grad(run)(params)["features"]
    for stage in ("stage_1", "stage_2"):
        assert (
            np.abs(gradient[stage]["conv_1"]["bias"]).max() < 1e-5 * np.abs(gradient[stage]["conv_1"]["kernel"]).max()
        )
    bare = VGG(VGGConfig(**TINY_VGG, stem="small", batch_norm=True, bias=False, dropout=0.0))
    without = jax.eval_shape(bare.init, jax.random.key(1), x)[0]
    assert set(without["features"]["stage_1"]["conv_1"]) == {"kernel"}


def test_layers_are_the_number_in_the_name():
    for layers in (11, 13, 16, 19):
        assert sum(vgg_config(layers).convolutions) + 3 == layers


def test_what_it_refuses():
    with pytest.raises(ValueError, match="11, 13, 16, 19, got 12"):
        vgg_config(12)
    with pytest.raises(ValueError, match="needs batch_norm=True"):
        VGGConfig(bias=False)
    with pytest.raises(ValueError, match="as many as"):
        VGGConfig(widths=(4, 6))
    with pytest.raises(ValueError, match="window"):
        jax.eval_shape(VGG(vgg_config(11)).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32))
