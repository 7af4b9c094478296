"""LeNet-5 (lecture 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import LeNet, LeNetConfig
from dlcore.nn import summarize


def test_params_layer_by_layer_as_in_the_paper_with_full_connections():
    rows = {row.path: row for row in summarize(LeNet(LeNetConfig()), jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32))}
    counts = [rows[name].parameters for name in ("conv_1", "conv_2", "dense_1", "dense_2", "dense_3")]
    assert counts == [25 * 6 + 6, 25 * 6 * 16 + 16, 400 * 120 + 120, 120 * 84 + 84, 84 * 10 + 10]
    assert [rows[f"pool_{i}"].shape for i in (1, 2)] == ["1×14×14×6", "1×5×5×16"]


def test_padding_is_the_frame_of_a_32_pixel_image():
    nets = [LeNet(LeNetConfig((2, 3), (5,), 3, pad=pad, pool="max", activation="relu")) for pad in (2, 0)]
    x = np.random.default_rng(0).normal(size=(2, 28, 28, 1)).astype(np.float32)
    framed = np.pad(x, [(0, 0), (2, 2), (2, 2), (0, 0)])
    params, _ = jax.jit(nets[0].init)(jax.random.key(0), x)
    outs = [jax.jit(net.apply)(params, {}, image)[0] for net, image in zip(nets, (x, framed), strict=True)]
    np.testing.assert_allclose(*outs, rtol=1e-5, atol=1e-6)


def test_another_pooling_is_refused():
    with pytest.raises(ValueError, match="pool must be avg or max, got 'mean'"):
        LeNetConfig(pool="mean")
