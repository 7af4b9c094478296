"""One table of layers, models, losses and experiments; every contract test runs over all of it."""

from typing import NamedTuple

import flax.linen as linen
import jax.numpy as jnp

from dlcore.interop import from_linen
from dlcore.losses import _classification as classification
from dlcore.losses import _regression as regression
from dlcore.networks import (
    CNN,
    MADE,
    MLP,
    ConvConditioner,
    ConvDecoder,
    ConvEncoder,
    GatedPixelCNN,
    MLPConditioner,
    MLPDecoder,
    MLPEncoder,
    PixelCNN,
    StackedClassifier,
)
from dlcore.nn import (
    Activation,
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BatchNorm,
    Conv,
    ConvNorm,
    Dense,
    DepthToSpace,
    Dropout,
    Embedding,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupConv,
    GroupLift,
    GroupNorm,
    GroupPool,
    InstanceNorm,
    KeepLargest,
    LayerNorm,
    LayerScale,
    MaxPool,
    MaxPoolCeil,
    PositionBias,
    Reshape,
    Stage,
    StochasticDepth,
    compute_in,
    concat,
    identity,
    residual,
    scan,
    serial,
)
from dlcore.types import Model


class Case(NamedTuple):
    model: Model
    input: tuple[int, ...]
    output: tuple[int, ...]
    stochastic: bool = False
    integer: bool = False


def _block() -> Model:
    return residual(serial(Conv(4, 3, bias=False), BatchNorm(), Activation("relu")))


MODELS = {
    "dense": Case(Dense(5), (8, 3), (8, 5)),
    "dense_without_bias": Case(Dense(5, bias=False), (8, 2, 3), (8, 2, 5)),
    "conv_1d": Case(Conv(5, 3), (8, 9, 2), (8, 9, 5)),
    "conv_2d": Case(Conv(6, 3, stride=2, groups=2), (8, 7, 6, 4), (8, 4, 3, 6)),
    "conv_2d_one_channel": Case(Conv(6, 3), (8, 6, 6, 1), (8, 6, 6, 6)),
    "conv_3d": Case(Conv(2, 2, padding="valid"), (8, 4, 4, 4, 2), (8, 3, 3, 3, 2)),
    "conv_mirror": Case(Conv(2, 3, padding="mirror"), (8, 5, 5, 2), (8, 5, 5, 2)),
    "conv_periodic_dilated": Case(Conv(2, 3, padding="periodic", dilation=2), (8, 6, 6, 2), (8, 6, 6, 2)),
    "max_pool": Case(MaxPool(2), (8, 5, 4, 3), (8, 2, 2, 3)),
    "max_pool_overlapping": Case(MaxPool(3, stride=2, padding="zero"), (8, 5, 5, 3), (8, 3, 3, 3)),
    "avg_pool": Case(AvgPool(2, padding=1), (8, 4, 4, 3), (8, 3, 3, 3)),
    "max_pool_ceil": Case(MaxPoolCeil(3, 2), (8, 6, 4, 3), (8, 3, 2, 3)),
    "adaptive_avg_pool": Case(AdaptiveAvgPool((2, 3)), (8, 5, 7, 2), (8, 2, 3, 2)),
    "adaptive_max_pool": Case(AdaptiveMaxPool((2, 3)), (8, 5, 7, 2), (8, 2, 3, 2)),
    "global_avg_pool": Case(GlobalAvgPool(), (8, 5, 4, 3), (8, 3)),
    "global_max_pool": Case(GlobalMaxPool(), (8, 5, 4, 3), (8, 3)),
    "batch_norm": Case(BatchNorm(), (8, 4, 4, 3), (8, 4, 4, 3)),
    "layer_norm": Case(LayerNorm(), (8, 6), (8, 6)),
    "group_norm": Case(GroupNorm(2), (8, 4, 4, 6), (8, 4, 4, 6)),
    "instance_norm": Case(InstanceNorm(), (8, 4, 4, 3), (8, 4, 4, 3)),
    "conv_norm": Case(ConvNorm(4, 3, stride=2, activation="silu"), (8, 5, 5, 3), (8, 3, 3, 4)),
    "layer_scale": Case(LayerScale(0.1), (8, 6), (8, 6)),
    "group_lift": Case(GroupLift(2, 3), (8, 4, 4, 3), (8, 4, 4, 4, 2)),
    "group_conv": Case(GroupConv(2, 3), (8, 4, 4, 4, 2), (8, 4, 4, 4, 2)),
    "group_pool": Case(GroupPool(), (8, 4, 4, 4, 2), (8, 4, 4, 2)),
    "dropout": Case(Dropout(0.5), (8, 6), (8, 6), stochastic=True),
    "stochastic_depth": Case(StochasticDepth(0.5), (8, 3, 2), (8, 3, 2), stochastic=True),
    "embedding": Case(Embedding(11, 4), (8, 5), (8, 5, 4), integer=True),
    "flatten": Case(Flatten(), (8, 2, 3), (8, 6)),
    "reshape": Case(Reshape((3, 2)), (8, 6), (8, 3, 2)),
    "activation": Case(Activation("gelu"), (8, 6), (8, 6)),
    "identity": Case(identity(), (8, 6), (8, 6)),
    "serial": Case(serial(Dense(4), Activation("tanh"), Dropout(0.2), Dense(2)), (8, 3), (8, 2), stochastic=True),
    "residual": Case(_block(), (8, 5, 5, 4), (8, 5, 5, 4)),
    "residual_shortcut": Case(residual(Dense(5), Dense(5, bias=False)), (8, 3), (8, 5)),
    "concat": Case(concat(Dense(2), Dense(3)), (8, 4), (8, 5)),
    "scan": Case(scan(_block(), 3), (8, 5, 5, 4), (8, 5, 5, 4)),
    "scan_loop": Case(scan(serial(Dense(4), Dropout(0.2)), 3, unroll=False), (8, 4), (8, 4), stochastic=True),
    "stage": Case(Stage(Dense(4), residual(serial(Dense(4), BatchNorm())), 3, scan=True), (8, 3), (8, 4)),
    "bfloat16": Case(compute_in(serial(Dense(4), BatchNorm(), Dense(2)), jnp.bfloat16), (8, 3), (8, 2)),
    "mlp": Case(MLP((8,), 3, dropout=0.1), (8, 4, 4, 1), (8, 3), stochastic=True),
    "cnn": Case(CNN((4, 6), 3, hidden=5), (8, 8, 8, 1), (8, 3)),
    "conv_conditioner": Case(ConvConditioner(6, 4), (8, 4, 4, 2), (8, 4, 4, 4)),
    "mlp_conditioner": Case(MLPConditioner((6,), 4), (8, 3), (8, 4)),
    "position_bias": Case(PositionBias(), (8, 4, 4, 2), (8, 4, 4, 2)),
    "depth_to_space": Case(DepthToSpace(2), (8, 2, 3, 8), (8, 4, 6, 2)),
    "made": Case(MADE(4, (6, 5), 8), (8, 4), (8, 8)),
    "pixelcnn": Case(PixelCNN(3, features=8, first=3, windows=(3,)).model, (8, 4, 4, 1), (8, 4, 4, 3)),
    "gated_pixelcnn": Case(GatedPixelCNN(2, colours=3, features=6, windows=(3, 1)).model, (8, 4, 4, 3), (8, 4, 4, 6)),
    "keep_largest": Case(KeepLargest(2), (8, 6), (8, 6)),
    "stacked_classifier": Case(StackedClassifier((6, 5), 3), (8, 4), (8, 3)),
    "mlp_encoder": Case(MLPEncoder((8,), 4), (8, 4, 4, 1), (8, 4)),
    "conv_encoder": Case(ConvEncoder((4, 6), 3, hidden=5), (8, 8, 8, 1), (8, 3)),
    "conv_decoder": Case(ConvDecoder((6, 4), (8, 8, 2), hidden=5), (8, 3), (8, 8, 8, 2)),
    "mlp_decoder": Case(MLPDecoder((8,), (4, 4, 2), activation="relu"), (8, 3), (8, 4, 4, 2)),
    "linen": Case(from_linen(linen.Dense(3)), (8, 4), (8, 3)),
}

LOSSES = {
    "squared_error": (regression.squared_error, (6, 3), (6, 3), (6, 3)),
    "absolute_error": (regression.absolute_error, (6, 3), (6, 3), (6, 3)),
    "huber": (regression.huber, (6, 3), (6, 3), (6, 3)),
    "gaussian_nll": (lambda a, b, **k: regression.gaussian_nll(a, b, 0.7, **k), (6, 3), (6, 3), (6, 3)),
    "laplace_nll": (lambda a, b, **k: regression.laplace_nll(a, b, 0.7, **k), (6, 3), (6, 3), (6, 3)),
    "sigmoid_cross_entropy": (classification.sigmoid_cross_entropy, (6, 3), (6, 3), (6, 3)),
    "softmax_cross_entropy": (classification.softmax_cross_entropy, (6, 3), (6,), (6,)),
}
"""name: (loss, shape of predictions, shape of targets, shape of losses)."""

EXPERIMENTS = {
    "autoencoder": {
        "tied_denoising": {"widths": (8,), "latent": 3, "tied": True, "corruption": "masking", "ema": 0.9},
        "sparse_contractive": {"widths": (), "latent": 12, "code": "sigmoid", "kl": 1.0, "contractive": 0.1},
        "conv": {"model": "conv", "widths": (4, 6), "latent": 3, "loss": "bce", "l1": 0.1},
        "map": {"model": "map", "widths": (4, 6), "latent": 3, "patch": 2, "corruption": "gaussian"},
    },
    "bagging": {"bootstrap": {"widths": (6,), "members": 2, "masks": 2}},
    "bias_variance": {"replicas": {"widths": (2, 6), "replicas": 3, "fraction": 0.5}},
    "capacity": {"widths": {"widths": (1, 6)}},
    "classify": {
        "mlp": {"model": "mlp", "widths": (16,), "dropout": 0.1},
        "cnn": {
            "widths": (4, 8),
            "ema": 0.9,
            "rotation": 9.0,
            "cutout": 2,
            "mixup": 0.3,
            "cutmix": 1.0,
            "test_flip": True,
            "test_shift": 1,
        },
    },
    "diffusion": {
        "conditional": {"widths": (8, 8), "heads": 2, "steps": 20, "sample_steps": 3, "guidance": 2.0, "ema": 0.9},
        "unconditional_eps": {
            "widths": (8,),
            "heads": 0,
            "steps": 20,
            "sample_steps": 3,
            "conditional": False,
            "prediction": "eps",
            "sampler": "ancestral",
            "schedule": "linear",
        },
    },
    "flow": {
        "glow": {"widths": (6, 8), "steps": 1, "ema": 0.9},
        "real_nvp": {"flow": "real_nvp", "scales": 1, "widths": (6,), "steps": 2},
        "spline_variational": {
            "scales": 1,
            "widths": (6,),
            "steps": 1,
            "coupling": "spline",
            "bins": 3,
            "dequantization": "variational",
            "noise_steps": 2,
        },
    },
    "gan": {
        "dcgan": {"generator": (8, 6), "discriminator": (4, 6), "latent": 4, "ema": 0.9},
        "conditional_wasserstein": {
            "loss": "wasserstein",
            "generator": (6, 4),
            "discriminator": (4, 6),
            "latent": 4,
            "conditional": True,
            "spectral": True,
            "gradient_penalty": 10.0,
            "r1": 0.0,
            "discriminator_steps": 2,
            "ema": 0.0,
        },
    },
    "generative_classifier": {
        "vae": {"widths": (8,), "latent": 3, "samples": 2, "study_samples": 2, "hidden": (6,)},
    },
    "hashing": {
        "unsupervised": {"widths": (16,), "bits": 8},
        "supervised_noise": {"widths": (16,), "bits": 8, "supervised": True, "bottleneck": "noise"},
    },
    "initialisation": {"two": {"schemes": ("he", "lecun"), "depth": 2, "width": 6}},
    "optimizers": {"mlp": {"widths": (16,)}},
    "pca": {"autoencoders": {"components": 3, "compared": (2, 4), "widths": (6,)}},
    "pixelcnn": {
        "gated": {"features": 8, "windows": (3, 3), "head": "mixture", "components": 2, "conditional": True},
        "masked": {"model": "masked", "features": 8, "windows": (3, 1), "ema": 0.0},
    },
    "segment": {"composed": {"loss": "ce+dice", "widths": (6,), "objects": 2, "flip": True, "ema": 0.9}},
    "stacked": {"two": {"widths": (8, 6), "labels": ()}},
    "vae": {
        "bernoulli": {"widths": (8,), "latent": 3, "likelihood": "bernoulli", "iwae_samples": 4, "iwae_chunk": 2},
        "conv": {"model": "conv", "widths": (4, 6), "latent": 3, "iwae_samples": 4, "iwae_chunk": 2},
        "categorical_iwae": {"widths": (8,), "latent": 3, "objective": "iwae", "samples": 2, "iwae_samples": 0},
        "concrete": {"widths": (8,), "latent": 3, "posterior": "concrete", "iwae_samples": 4, "iwae_chunk": 2},
    },
}
"""name: variants as settings over the smoke preset."""

APART = ("transfer", "visualize")
"""Experiments that the table does not fit: one trains on half of the classes, the other trains nothing by itself."""
