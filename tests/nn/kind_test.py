"""What parts say they are, and what they are called by it, in models and in flows."""

import jax
import jax.numpy as jnp
import pytest

from dlcore.generative.flow import Autoregressive, ConditionalAffine, affine
from dlcore.generative.flow import _chain as chain
from dlcore.generative.flow import _coupling as coupling
from dlcore.generative.flow import _linear as linear
from dlcore.generative.flow import _pixels as pixels
from dlcore.generative.flow import _squeeze as squeeze
from dlcore.networks import MADE, ConvConditioner
from dlcore.nn import (
    GLU,
    Activation,
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BatchNorm,
    BlockConv,
    Conv,
    ConvNorm,
    ConvTranspose,
    Dense,
    DepthToSpace,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    InstanceNorm,
    KeepLargest,
    LayerNorm,
    MaxPool,
    MaxPoolCeil,
    Noise,
    Reshape,
    SpectralNorm,
    StochasticDepth,
    compose,
    compute_in,
    concat,
    cropped,
    freeze_statistics,
    glu,
    identity,
    log_softmax,
    numbered,
    observe,
    padded,
    residual,
    scan,
    serial,
    starting_at,
    weight_noise,
)
from dlcore.types import Model

KINDS = {
    "dense": Dense(1),
    "conv": Conv(1, 3),
    "block_conv": BlockConv(1, 2, stride=2),
    "conv_transpose": ConvTranspose(1, 2),
    "conv_norm": ConvNorm(1, 3),
    "batch_norm": BatchNorm(),
    "layer_norm": LayerNorm(),
    "group_norm": GroupNorm(1),
    "instance_norm": InstanceNorm(),
    "activation": Activation("relu"),
    "softmax": Activation("softmax"),
    "log_softmax": Activation(log_softmax),
    "glu": Activation(glu),
    "max_pool": MaxPool(2),
    "avg_pool": AvgPool(2),
    "max_pool_ceil": MaxPoolCeil(2, 2),
    "global_avg_pool": GlobalAvgPool(),
    "global_max_pool": GlobalMaxPool(),
    "adaptive_avg_pool": AdaptiveAvgPool(2),
    "adaptive_max_pool": AdaptiveMaxPool(2),
    "flatten": Flatten(),
    "reshape": Reshape((1,)),
    "depth_to_space": DepthToSpace(2),
    "dropout": Dropout(0.5),
    "stochastic_depth": StochasticDepth(0.5),
    "noise": Noise(0.5),
    "keep_largest": KeepLargest(1),
    "identity": identity(),
    "serial": serial(Dense(1)),
    "residual": residual(Dense(1)),
    "concat": concat(Dense(1)),
    "scan": scan(Dense(1), 2),
    "block": compose(lambda call, x: x),
    "padded": padded(Dense(1), 2),
    "cropped": cropped(Dense(1), 2, 2),
    "observe": observe(serial(Dense(1)), "dense_0"),
    "layer": Model(lambda key, x: ({}, {}), lambda params, state, x, **_: (x, state)),
}

FLOW_KINDS = {
    "act_norm": linear.ActNorm(),
    "permutation": linear.Permutation((1, 0)),
    "invertible_conv": linear.InvertibleConv(),
    "invertible_conv_plu": linear.InvertibleConvPLU(2),
    "affine_coupling": coupling.AffineCoupling(ConvConditioner(2, 2)),
    "coupling": coupling.Coupling(ConvConditioner(2, 2), affine()),
    "spline_coupling": coupling.SplineCoupling(ConvConditioner(2, 2)),
    "autoregressive": Autoregressive(MADE(2, (2,), 4), affine()),
    "conditional_affine": ConditionalAffine(Dense(2)),
    "logit": pixels.Logit(),
    "affine": pixels.Affine(2.0),
    "squeeze": squeeze.Squeeze(),
    "flatten": chain.Flatten((2,)),
    "split": chain.split(chain.Flatten((1,)), (2,)),
    "chain": chain.chain(linear.ActNorm()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_says_what_it_is(kind):
    assert KINDS[kind].kind == kind


@pytest.mark.parametrize("kind", FLOW_KINDS)
def test_a_step_of_a_flow_says_what_it_is(kind):
    assert FLOW_KINDS[kind].kind == chain.invert(FLOW_KINDS[kind]).kind == kind


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: compute_in(m, jnp.bfloat16),
        SpectralNorm,
        lambda m: weight_noise(m, 0.1),
        lambda m: starting_at(m, bias=lambda key, shape: jnp.ones(shape)),
        lambda m: freeze_statistics(compute_in(m, jnp.float32)),
    ],
    ids=["compute_in", "spectral_norm", "weight_noise", "starting_at", "freeze_statistics"],
)
def test_wrappers_that_change_no_outputs_keep_the_kind(wrap):
    assert wrap(Conv(2, 3)).kind == "conv"


def test_parts_are_numbered_by_kind_in_models_and_in_flows():
    parts = [BatchNorm(), ConvTranspose(1, 2), BatchNorm(), GLU(), MaxPool(2)]
    names = ["batch_norm_0", "conv_transpose_0", "batch_norm_1", "glu_0", "max_pool_0"]
    assert list(numbered(parts)) == names and list(serial(*parts).apply.parts) == names
    flow = chain.chain(linear.ActNorm(), chain.invert(linear.ActNorm()), linear.InvertibleConvPLU(2))
    params = flow.init(jax.random.key(0), jax.random.normal(jax.random.key(1), (4, 2)))
    assert list(params) == ["act_norm_0", "act_norm_1", "invertible_conv_plu_0"]
