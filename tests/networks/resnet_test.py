"""Residual networks (lecture 16)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_table import ARCHITECTURES, TINY_RESNET

from dlcore.networks import ResNet, ResNetConfig, cifar_config, imagenet_config
from dlcore.networks._resnet import Block, subsample
from dlcore.nn import flops


def test_the_number_in_the_name_counts_weighted_layers():
    for layers in (18, 34, 50, 101, 152):
        config = imagenet_config(layers)
        assert sum(config.blocks) * {"basic": 2, "bottleneck": 3}[config.block] + 2 == layers
    for layers in (20, 32, 44, 56, 110):
        assert sum(cifar_config(layers).blocks) * 2 + 2 == layers


@pytest.mark.slow
def test_work_of_resnet_50_is_that_of_the_definition_with_the_stride_in_the_3x3():
    # Multiply-adds published with that definition; He et al. 2016 have 3.8e9 with the stride in the 1×1 convolution.
    net, x = ARCHITECTURES["resnet50"].model, jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    params, state = jax.eval_shape(net.init, jax.random.key(0), x)
    work = flops(jax.make_jaxpr(lambda *args: net.apply(*args)[0])(params, state, x)) / 2 / x.shape[0]
    assert work == pytest.approx(4.089e9, rel=2e-4)


def block(x, *, seed=1, **options):
    model = Block(ResNetConfig(**options), 4, 4)
    params, state = model.init(jax.random.key(seed), x)
    return model, params, state


def test_a_block_that_ends_in_zero_is_the_identity():
    x = jax.random.normal(jax.random.key(0), (4, 5, 5, 4))
    model, params, state = block(x, zero_last=True)
    np.testing.assert_array_equal(model.apply(params, state, x, train=True)[0], jnp.maximum(x, 0))
    model, params, state = block(x, preactivation=True)
    params["add"]["body"]["conv_2"]["kernel"] *= 0
    np.testing.assert_array_equal(model.apply(params, state, x, train=True)[0], x)


@pytest.mark.slow
def test_shortcut_without_params():
    x = jnp.arange(2 * 5 * 5 * 3, dtype=jnp.float32).reshape(2, 5, 5, 3)
    y = subsample(x, 5, 2)
    assert y.shape == (2, 3, 3, 5) and not y[..., 3:].any()
    np.testing.assert_array_equal(y[1, 2, 1, :3], x[1, 4, 2])
    with pytest.raises(ValueError, match="3 channels cannot become 2"):
        subsample(x, 2, 1)
    nets = [ResNet(ResNetConfig(**TINY_RESNET, shortcut=option)) for option in "AB"]
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    shapes = [jax.eval_shape(net.init, jax.random.key(0), images)[0] for net in nets]
    counts = [sum(leaf.size for leaf in jax.tree.leaves(params)) for params in shapes]
    assert counts[1] - counts[0] == 4 * 6 + 2 * 6


@pytest.mark.slow
def test_zeroed_branches_leave_the_stem_to_the_head():
    # With the last scales at 0, shortcut A and non-negative maps, the network is stem, subsampling and head.
    net = ResNet(ResNetConfig(**TINY_RESNET, shortcut="A", zero_last=True))
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    params, state = jax.jit(net.init)(jax.random.key(1), x)
    kernel = np.asarray(params["stem"]["conv"]["kernel"])
    patches = np.lib.stride_tricks.sliding_window_view(np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]), (3, 3), (1, 2))
    stem = np.maximum(np.einsum("nhwckl,klco->nhwo", patches, kernel) / np.sqrt(1 + 1e-5), 0)
    mean = np.pad(stem[:, ::2, ::2].mean((1, 2)), [(0, 0), (0, 2)])
    expected = mean @ np.asarray(params["head"]["kernel"])
    np.testing.assert_allclose(jax.jit(net.apply)(params, state, x)[0], expected, rtol=1e-4, atol=1e-5)


def test_what_it_refuses():
    for wrong, match in [
        ({"block": "wide"}, "basic or bottleneck"),
        ({"shortcut": "C"}, "shortcut A or B"),
        ({"blocks": (1, 1)}, "as many as"),
        ({"zero_last": True, "preactivation": True}, "preactivation=False"),
    ]:
        with pytest.raises(ValueError, match=match):
            ResNetConfig(**wrong)
    with pytest.raises(ValueError, match="18, 34, 50, 101, 152, got 20"):
        imagenet_config(20)
    with pytest.raises(ValueError, match=r"6n \+ 2"):
        cifar_config(21)
