"""ConvNeXt (lecture 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_table import TINY_CONVNEXT

from dlcore.networks.convnext import Block, ConvNeXt, ConvNeXtConfig
from dlcore.nn.combine import Graph


def test_a_block_starts_as_nearly_the_identity_and_is_its_formula():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    block = Block(3, 1e-6, 0.0)
    params, state = jax.jit(block.init)(jax.random.key(1), x)
    run = jax.jit(block.apply)
    assert 0 < np.abs(run(params, state, x)[0] - x).max() < 1e-5
    body = {**params["body"], "scale": {"gamma": np.array([1.0, 2.0, 3.0], np.float32)}}
    h = jax.lax.conv_general_dilated(
        x,
        body["depthwise"]["kernel"],
        (1, 1),
        [(3, 3)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    h = np.asarray(h, np.float64)
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
    h = np.asarray(jax.nn.gelu(h @ np.asarray(body["expand"]["kernel"]), approximate=False))
    expected = x + np.array([1.0, 2.0, 3.0]) * (h @ np.asarray(body["project"]["kernel"]))
    np.testing.assert_allclose(run({"body": body}, state, x)[0], expected, rtol=1e-3, atol=1e-3)


def test_later_blocks_are_dropped_more_often():
    net = ConvNeXt(ConvNeXtConfig(blocks=(2, 2), widths=(4, 6), classes=3, stem="small", stochastic_depth=0.3))
    parts = net.apply.parts

    def layers(stage, block):
        body = parts[f"stage_{stage}"].apply.parts[f"block_{block}"].apply.parts["body"]
        assert isinstance(body.apply, Graph)
        return body.apply.parts

    assert "depth" not in layers(1, 0) and all("depth" in layers(*at) for at in [(1, 1), (2, 0), (2, 1)])
    x = jnp.ones((2000, 2))
    rates = [
        float((layers(*at)["depth"].apply({}, {}, x, train=True, key=jax.random.key(0))[0] == 0).mean())
        for at in [(1, 1), (2, 0), (2, 1)]
    ]
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3], atol=0.04)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="stochastic_depth=0"):
        ConvNeXtConfig(scan=True)
    with pytest.raises(ValueError, match="as many as"):
        ConvNeXtConfig(blocks=(1, 2))
    net = ConvNeXt(ConvNeXtConfig(**TINY_CONVNEXT))
    x = jnp.zeros((2, 8, 8, 1))
    with pytest.raises(ValueError, match="key"):
        jax.eval_shape(lambda k: net.apply(*net.init(k, x), x, train=True), jax.random.key(0))
