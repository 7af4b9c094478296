"""Attention over the positions of an image (Vaswani et al. 2017)."""

import math

import jax
from jaxtyping import Array

from dlcore.nn._dense import Dense
from dlcore.nn._function import Function
from dlcore.nn._graph import Call, compose
from dlcore.nn._norm import GroupNorm
from dlcore.nn.init import zeros
from dlcore.setting import whole
from dlcore.types import Model


def SpatialAttention(features: int, heads: int) -> Model:
    """x + W softmax(q kᵀ/√d) v over all positions, `heads` times in parallel; W starts at 0.

    Raises `ValueError` when `heads` does not divide `features`.
    """
    features, heads = whole(features, "SpatialAttention: features"), whole(heads, "SpatialAttention: heads")
    if features % heads:
        raise ValueError(f"SpatialAttention: heads={heads} does not divide the {features} channels")

    def forward(call: Call, x: Array) -> Array:
        b, h, w, _ = x.shape
        qkv = call("qkv", call("norm", x)).reshape(b, h * w, 3, heads, features // heads)
        mixed = call("attention", qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return x + call("out", mixed.reshape(b, h, w, features))

    norm, out = GroupNorm(math.gcd(features, 8)), Dense(features, kernel_init=zeros)
    attention = Function(jax.nn.dot_product_attention, "dot_product_attention")
    network = compose(forward, norm=norm, qkv=Dense(3 * features), out=out, attention=attention)
    return network._replace(kind="spatial_attention")
