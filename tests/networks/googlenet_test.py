"""GoogLeNet (lecture 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_table import ARCHITECTURES, MODULE, TINY, TINY_GOOGLENET

from dlcore.networks import GoogLeNet, GoogLeNetConfig
from dlcore.networks._googlenet import Inception
from dlcore.nn import activations


def shapes(net, pixels):
    x = jax.ShapeDtypeStruct((2, pixels, pixels, 3), jnp.float32)
    params, state = jax.eval_shape(net.init, jax.random.key(0), x)
    found = jax.eval_shape(lambda p, s, x: activations(net, p, s, x)[1], params, state, x)
    return {path: (value.shape[1], value.shape[-1]) for path, value in found.items()}


@pytest.mark.slow
def test_sizes_and_channels_are_those_of_the_paper():
    found = shapes(ARCHITECTURES["googlenet"].model, 224)
    assert found["stem/pool_1"] == (56, 64) and found["stem/pool_2"] == (28, 192)
    names = ("module_3a", "module_3b", "module_4a", "module_4d", "module_4e", "module_5a", "module_5b")
    expected = [(28, 256), (28, 480), (14, 512), (14, 528), (14, 832), (7, 832), (7, 1024)]
    assert [found[name] for name in names] == expected


@pytest.mark.slow
def test_a_module_joins_four_views_of_its_input():
    module, x = Inception(MODULE, wide=5), jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    params, state = jax.jit(module.init)(jax.random.key(1), x)
    assert params["branch_3"]["conv_2"]["conv"]["kernel"].shape == (5, 5, 2, 3)
    run = jax.jit(lambda x: module.apply(params, state, x)[0])
    base = run(x)
    assert base.shape == (2, 6, 6, 2 + 4 + 3 + 2)
    reach = np.abs(run(x.at[:, 0, 0].add(3.0)) - base).max(0)
    ends = [
        np.abs(np.argwhere(reach[..., part].max(-1) > 0)).max(initial=0) for part in np.split(np.arange(11), [2, 6, 9])
    ]
    assert ends == [0, 1, 2, 1]


@pytest.mark.slow
def test_auxiliary_heads_see_the_second_stage_only():
    net = GoogLeNet(GoogLeNetConfig(**TINY_GOOGLENET, auxiliary=True, auxiliary_hidden=6, dropout=0.0))
    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    params, state = jax.eval_shape(net.init, jax.random.key(0), x)
    assert params["auxiliary_1"]["hidden"]["kernel"].shape == (16 * 128, 6)
    out = jax.eval_shape(lambda *args: net.apply(*args)[0], params, state, x)
    assert [logits.shape for logits in out] == [(2, 3)] * 3
    plain = jax.eval_shape(TINY["googlenet"].model.init, jax.random.key(0), x)[0]
    assert set(params) - set(plain) == {"auxiliary_1", "auxiliary_2"}
    with pytest.raises(ValueError, match="three, the second with two"):
        GoogLeNetConfig(stages=((MODULE,),) * 3, auxiliary=True)
