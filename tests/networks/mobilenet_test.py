"""MobileNetV2 (lecture 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_table import ARCHITECTURES, SMALL

from dlcore.networks._mobilenet import InvertedResidual, rounded
from dlcore.nn import activations


@pytest.mark.parametrize(
    ("channels", "expected"), [(32, 32), (16 * 0.35, 8), (24 * 0.75, 24), (96 * 0.35, 32), (1280 * 1.4, 1792), (11, 16)]
)
def test_channels_are_rounded_to_eights_and_lose_at_most_a_tenth(channels, expected):
    assert rounded(channels) == expected


def test_a_block_expands_filters_each_map_alone_and_projects_linearly():
    block, x = InvertedResidual(3, 3, 4), 20 * jax.random.normal(jax.random.key(0), (2, 5, 5, 3))
    params, state = jax.jit(block.init)(jax.random.key(1), x)
    found = jax.jit(lambda x: activations(block, params, state, x))
    out, inner = found(x)
    assert inner["body/expand"].shape == (2, 5, 5, 12)
    for part in ("expand", "depthwise"):
        assert inner[f"body/{part}"].min() == 0 and inner[f"body/{part}"].max() <= 6
    assert inner["body/expand"].max() == 6 and inner["body/project"].min() < 0
    np.testing.assert_allclose(out, x + inner["body/project"], rtol=1e-6)
    kernel = np.asarray(params["body"]["depthwise"]["conv"]["kernel"])[:, :, 0]
    h = np.pad(np.asarray(inner["body/expand"]), [(0, 0), (1, 1), (1, 1), (0, 0)])
    filtered = sum(h[:, i : i + 5, j : j + 5] * kernel[i, j] for i in range(3) for j in range(3))
    np.testing.assert_allclose(inner["body/depthwise/conv"], filtered, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_sizes_of_the_maps():
    for net, image, expected in [
        (ARCHITECTURES["mobilenet_v2"].model, (224, 224, 3), [112, 112, 56, 28, 14, 14, 7, 7]),
        (SMALL["mobilenet_v2"], (28, 28, 1), [28, 28, 28, 14, 7, 7, 4, 4]),
    ]:
        x = jax.ShapeDtypeStruct((2, *image), jnp.float32)
        params, state = jax.eval_shape(net.init, jax.random.key(0), x)
        found = jax.eval_shape(lambda p, s, x, net=net: activations(net, p, s, x)[1], params, state, x)
        assert [found[name].shape[1] for name in ("stem", *(f"stage_{i}" for i in range(1, 8)))] == expected
