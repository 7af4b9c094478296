"""Rates and standard deviations may be traced: a search maps over them, an annealing steps through them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import (
    CNN,
    MLP,
    VGG,
    ConvNeXt,
    ConvNeXtConfig,
    DenseNet,
    DenseNetConfig,
    LeNet,
    LeNetConfig,
    ResNet,
    ResNetConfig,
    VGGConfig,
)
from dlcore.nn import (
    Dense,
    Dropout,
    Noise,
    StochasticDepth,
    add_noise,
    drop,
    dropout,
    linear_rates,
    scale_weights,
    serial,
    stochastic_depth,
    weight_noise,
)
from dlcore.optim import clip_adaptively, clip_by_global_norm, clip_by_value

KEY = jax.random.key(3)
X = jax.random.normal(jax.random.key(0), (6, 8))
IMAGES = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))


TINY_CONVNEXT = ConvNeXtConfig((2,), (4,), 3, "small", stochastic_depth=0.0)


def trained(model, x=X):
    """The output in training, of a model that is built where its setting may be traced."""
    params, state = model.init(jax.random.key(1), x)
    return model.apply(params, state, x, train=True, key=KEY)[0]


def clipped(make, largest):
    tx, grads = make(largest), {"kernel": 3 * X}
    return tx.update(grads, tx.init(grads), {"kernel": jnp.cos(X)})[0]["kernel"]


SETTINGS = {
    "dropout": lambda s: dropout(X, s, key=KEY, broadcast_axes=(1,)),
    "drop": lambda s: drop(X, s, key=KEY),
    "scale_weights": lambda s: scale_weights(X, s),
    "Dropout": lambda s: trained(serial(Dense(4), Dropout(s))),
    "stochastic_depth": lambda s: stochastic_depth(X, s, key=KEY),
    "StochasticDepth": lambda s: trained(StochasticDepth(s)),
    "linear_rates": lambda s: jnp.stack([trained(Dropout(rate)) for rate in linear_rates(s, 3)]),
    "MLP": lambda s: trained(MLP((4,), 2, dropout=s)),
    "add_noise": lambda s: add_noise(X, s, key=KEY),
    "Noise": lambda s: trained(Noise(s)),
    "weight_noise": lambda s: trained(weight_noise(Dense(4), s)),
    "clip_by_value": lambda s: clipped(clip_by_value, s),
    "clip_by_global_norm": lambda s: clipped(clip_by_global_norm, s),
    "clip_adaptively": lambda s: clipped(clip_adaptively, s),
}
"""name: what a setting between 0 and 1 makes."""
NETWORKS = {
    "cnn": lambda rate: CNN((2,), 2, dropout=rate),
    "convnext_depth": lambda rate: ConvNeXt(replace(TINY_CONVNEXT, stochastic_depth=rate)),
    "convnext_dropout": lambda rate: ConvNeXt(replace(TINY_CONVNEXT, dropout=rate)),
    "densenet": lambda rate: DenseNet(DenseNetConfig(2, 4, (1,), 2, 3, "small", dropout=rate)),
    "lenet": lambda rate: LeNet(LeNetConfig((2, 2), (3,), classes=2, pad=6, dropout=rate)),
    "resnet": lambda rate: ResNet(ResNetConfig(blocks=(1,), widths=(4,), classes=3, stem="small", dropout=rate)),
    "vgg": lambda rate: VGG(VGGConfig((1,), (2,), 3, hidden=(4,), dropout=rate)),
}
"""name: a tiny network with a rate."""
BAD = {
    **dict.fromkeys((*list(SETTINGS)[:7], "MLP"), (-0.1, 1.0, float("nan"), np.float32(1.5), np.array(2.0))),
    **dict.fromkeys(("add_noise", "Noise", "weight_noise"), (-0.1, float("nan"), np.float32(-1))),
    **dict.fromkeys(("clip_by_value", "clip_by_global_norm", "clip_adaptively"), (0.0, -1.0, float("nan"))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_traced_setting_gives_what_the_number_gives(name):
    function, values = SETTINGS[name], jnp.asarray([0.25, 0.5])
    found = jax.jit(jax.vmap(function))(values)
    for value, out in zip((0.25, 0.5), found, strict=True):
        np.testing.assert_allclose(out, jax.jit(lambda value=value: function(value))(), rtol=1e-5, atol=1e-6)
    slope = jax.jit(jax.grad(lambda s: (function(s) ** 2).sum()))(0.25)
    assert np.isfinite(slope) and (name == "drop" or slope != 0)


@pytest.mark.sampled
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_built_with_a_traced_rate(name):
    def value(rate):
        return trained(NETWORKS[name](rate), IMAGES).sum()

    assert jax.eval_shape(jax.grad(value), 0.5).shape == ()
    with pytest.raises(ValueError, match="rate"):
        NETWORKS[name](1.5)


@pytest.mark.parametrize("name", BAD)
def test_a_known_setting_is_checked(name):
    for bad in (*BAD[name], jnp.float32(-2.0)):
        with pytest.raises(ValueError, match=r"rate|std|threshold"):
            SETTINGS[name](bad)


@pytest.mark.parametrize("zero", [0, 0.0, np.float32(0), jnp.float32(0)])
def test_a_known_zero_needs_no_key_also_where_others_are_traced(zero):
    layers = Dropout(zero), StochasticDepth(zero), Noise(zero)
    for out in jax.jit(lambda x: [layer.apply({}, {}, x, train=True)[0] for layer in layers])(X):
        np.testing.assert_array_equal(out, X)
    np.testing.assert_array_equal(add_noise(X, zero, key=KEY), X)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_traced_setting_keeps_the_dtype(dtype):
    x = X.astype(dtype)
    for function in (dropout, drop, stochastic_depth, add_noise):
        traced = jax.jit(lambda s, f=function: f(x, s, key=KEY))(jnp.float32(0.3))
        assert traced.dtype == function(x, 0.3, key=KEY).dtype == dtype
        expected = function(x.astype(jnp.float32), 0.3, key=KEY)
        if function is not add_noise:  # Its draws depend on the dtype.
            np.testing.assert_allclose(traced.astype(jnp.float32), expected, rtol=1e-2)


def test_gradients_in_a_setting_are_those_of_its_formula():
    mask = np.asarray(dropout(X, 0.4, key=KEY) != 0)
    slope = jax.grad(lambda r: dropout(X, r, key=KEY).sum())(0.4)
    np.testing.assert_allclose(slope, (mask * X).sum() / 0.6**2, rtol=1e-5)
    noise = add_noise(jnp.zeros((6, 8)), 1.0, key=KEY)
    slope = jax.grad(lambda s: (noise * add_noise(X, s, key=KEY)).sum())(0.4)
    np.testing.assert_allclose(slope, (noise**2).sum(), rtol=1e-5)
