"""ConvNeXt (lecture 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_layers as oracle
import pytest
from network_table import TINY_CONVNEXT

from dlcore.networks import ConvNeXt, ConvNeXtConfig
from dlcore.networks._convnext import Block
from dlcore.nn import Graph


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


@pytest.mark.slow
def test_the_whole_network_by_hand_where_epsilon_counts():
    """Small signals: every norm sees variances near its ε = 10⁻⁶, so that another ε gives other logits."""
    net, rng = ConvNeXt(ConvNeXtConfig(**TINY_CONVNEXT)), np.random.default_rng(0)
    x = 1e-3 * rng.normal(size=(2, 8, 8, 3))
    params, _ = jax.eval_shape(net.init, jax.random.key(0), jnp.asarray(x))
    params = jax.tree_util.tree_map_with_path(
        # Biases and gains are small too; they would hide how small the signal is.
        lambda path, p: rng.normal(size=p.shape) * (0.3 if path[-1].key == "kernel" else 1e-3),
        params,
    )
    norm = lambda h, part: oracle.layer_norm(h, part, 1e-6)  # noqa: E731

    def block(h, part):
        part = part["body"]
        y = norm(oracle.conv(h, part["depthwise"], padding=3, depthwise=True), part["norm"])
        y = oracle.dense(oracle.gelu(oracle.dense(y, part["expand"])), part["project"])
        return h + part["scale"]["gamma"] * y

    h = norm(oracle.conv(x, params["stem"]["conv"], stride=2), params["stem"]["norm"])
    h = block(h, params["stage_1"]["block_0"])
    h = oracle.conv(norm(h, params["downsample_1"]["norm"]), params["downsample_1"]["conv"], stride=2)
    for name in ("block_0", "block_1"):
        h = block(h, params["stage_2"][name])
    expected = oracle.dense(norm(h.mean((1, 2)), params["norm"]), params["head"])
    with jax.enable_x64(True):
        out, _ = jax.jit(net.apply)(jax.tree.map(jnp.asarray, params), {}, jnp.asarray(x))
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-12)
    assert np.ptp(expected, axis=0).min() > 1e-6 * np.abs(expected).max(), "the images are told apart"


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
