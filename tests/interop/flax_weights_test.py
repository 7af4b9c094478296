"""Weights of Linen ResNets in dlcore's, where sizes are even and odd, against the Linen modules themselves."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze

from dlcore.interop import _flax_names as flax_names
from dlcore.interop.flax_weights import from_flax, to_flax
from dlcore.networks import ResNet, ResNetConfig

CONV = functools.partial(nn.Conv, use_bias=False)


class ResNetBlock(nn.Module):
    filters: int
    strides: int
    train: bool

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(nn.BatchNorm, use_running_average=not self.train, momentum=0.9, epsilon=1e-5)
        y = nn.relu(norm()(CONV(self.filters, (3, 3), self.strides)(x)))
        y = norm()(CONV(self.filters, (3, 3))(y))
        if y.shape != x.shape:
            x = norm(name="norm_proj")(CONV(self.filters, (1, 1), self.strides, name="conv_proj")(x))
        return nn.relu(x + y)


class BottleneckResNetBlock(nn.Module):
    filters: int
    strides: int
    train: bool

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(nn.BatchNorm, use_running_average=not self.train, momentum=0.9, epsilon=1e-5)
        y = nn.relu(norm()(CONV(self.filters, (1, 1))(x)))
        y = nn.relu(norm()(CONV(self.filters, (3, 3), self.strides)(y)))
        y = norm()(CONV(4 * self.filters, (1, 1))(y))
        if y.shape != x.shape:
            x = norm(name="norm_proj")(CONV(4 * self.filters, (1, 1), self.strides, name="conv_proj")(x))
        return nn.relu(x + y)


class LinenResNet(nn.Module):
    block: type
    blocks: tuple
    stem: object = ((3, 3), (3, 3))

    @nn.compact
    def __call__(self, x, train=False):
        x = CONV(4, (7, 7), (2, 2), padding=self.stem, name="conv_init")(x)
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name="bn_init")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for i, count in enumerate(self.blocks):
            for j in range(count):
                x = self.block(4 * 2**i, 2 if i > 0 and j == 0 else 1, train)(x)
        return nn.Dense(3)(x.mean((1, 2)))


BLOCKS = {"basic": ResNetBlock, "bottleneck": BottleneckResNetBlock}


def pair(block, blocks, padding="flax", **changes):
    linen = LinenResNet(BLOCKS[block], blocks, "SAME" if padding == "same" else ((3, 3), (3, 3)))
    widths = tuple(4 * 2**i for i in range(len(blocks)))
    model = ResNet(ResNetConfig(block=block, blocks=blocks, widths=widths, classes=3, padding=padding, **changes))
    shapes = jax.eval_shape(linen.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    # Positive, so that running variances are.
    variables = jax.tree.map(lambda x: np.float32(rng.uniform(0.02, 0.4, x.shape)), shapes)
    variables["params"] = jax.tree.map(lambda x: (x - 0.2) * 2, variables["params"])
    return linen, variables, model, jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "blocks", "padding"),
    [("basic", (1, 2), "flax"), ("bottleneck", (2, 1), "flax"), ("basic", (1, 1), "same")],
)
def test_logits_and_statistics_are_those_of_linen(block, blocks, padding):
    linen, variables, model, template = pair(block, blocks, padding)
    params, state = from_flax(variables, flax_names.resnet, *template)
    for size in (32, 33):
        x = jnp.asarray(np.random.default_rng(size).normal(size=(2, size, size, 3)), jnp.float32)
        logits = linen.apply(variables, x)
        np.testing.assert_allclose(
            model.apply(params, state, x)[0], logits, rtol=1e-4, atol=1e-5 * np.abs(logits).max()
        )
    trained, moved = linen.apply(variables, x, train=True, mutable=["batch_stats"])
    ours, after = model.apply(params, state, x, train=True, key=jax.random.key(0))
    np.testing.assert_allclose(ours, trained, rtol=1e-3, atol=1e-4 * np.abs(trained).max())
    back = to_flax(flax_names.resnet, params, after)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), back, {**variables, **moved})


@pytest.mark.slow
def test_the_padding_matters_where_sizes_are_even():
    linen, variables, _, template = pair("basic", (1, 1))
    model = ResNet(ResNetConfig(blocks=(1, 1), widths=(4, 8), classes=3))
    params, state = from_flax(variables, flax_names.resnet, *template)
    far = {}
    for size in (32, 33):
        x = jnp.asarray(np.random.default_rng(size).normal(size=(2, size, size, 3)), jnp.float32)
        far[size] = float(jnp.abs(model.apply(params, state, x)[0] - linen.apply(variables, x)).max())
    assert far[33] < 1e-4 and far[32] > 1e-2


@pytest.mark.slow
def test_a_round_trip_through_a_scanned_network_is_exact():
    _, variables, _, template = pair("bottleneck", (3, 2), scan=True)
    params, state = from_flax(freeze(variables), flax_names.resnet, *template)
    back = to_flax(flax_names.resnet, params, state)
    assert jax.tree.structure(back) == jax.tree.structure(dict(variables))
    jax.tree.map(np.testing.assert_array_equal, back, dict(variables))


@pytest.mark.slow
def test_other_weights_are_refused_with_all_that_is_wrong():
    _, variables, _, template = pair("basic", (1, 2))
    _, other, _, _ = pair("bottleneck", (1, 1))
    with pytest.raises(ValueError, match=r"missing: batch_stats/ResNetBlock_0.*\nextra: .*BottleneckResNetBlock_0"):
        from_flax(other, flax_names.resnet, *template)
    wrong = {
        **variables,
        "params": {**variables["params"], "Dense_0": {"kernel": np.zeros((8, 5)), "bias": np.zeros(3)}},
    }
    with pytest.raises(ValueError, match=r"shape of params/Dense_0/kernel: \(8, 5\), expected \(8, 3\)"):
        from_flax(wrong, flax_names.resnet, *template)
    before = ResNet(ResNetConfig(blocks=(1,), widths=(4,), preactivation=True))
    with pytest.raises(ValueError, match="no Flax name is known"):
        shapes = jax.eval_shape(before.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        from_flax(variables, flax_names.resnet, *shapes)
    with pytest.raises(ValueError, match="padding must be one of half, same, flax"):
        ResNetConfig(padding="SAME")
