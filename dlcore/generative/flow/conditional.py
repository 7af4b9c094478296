"""A Gaussian base that depends on a condition, as the last part of a flow (lecture 22, 28)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dlcore.generative.flow.chain import Moved, checked_condition
from dlcore.generative.flow.transform import bounded, scaled, unscaled
from dlcore.operands import has_shape
from dlcore.setting import Number
from dlcore.types import Bijector, Key, Model, Params


def ConditionalAffine(network: Model, *, bound: Number = 2.0) -> Bijector:
    """z = x·exp(s(c)) + t(c) of latents [b, d] given c: under a standard normal base, x given c is
    N(−t·e^{−s}, e^{−2s}), a mixture component of its own for every class.

    The network takes the condition alone and gives [b, 2d]: raw log-scales, bounded by `bound`, then shifts; its last
    layer should start at zero. Raises `ValueError` for another shape, or a network with state.
    """

    def numbers(params: Params, x: Array, condition: tuple[Array, ...]) -> tuple[Array, Array]:
        checked_condition("ConditionalAffine", True, x, condition)
        out, _ = network.apply(params, {}, *condition)
        has_shape("ConditionalAffine", "the network's output", out, (len(x), 2 * x.shape[-1]), f"for x {x.shape}")
        raw, shift = jnp.split(out, 2, axis=-1)
        return bounded(raw, bound), shift

    def init(key: Key, x: Array, *condition: Array) -> Params:
        checked_condition("ConditionalAffine", True, x, condition)
        params, state = network.init(key, *condition)
        if jax.tree.leaves(state):
            raise ValueError("ConditionalAffine: the network has state (a batch norm?); a bijection must have none")
        return params

    def forward(params: Params, x: Array, *condition: Array) -> Moved:
        log_scale, shift = numbers(params, x, condition)
        return scaled(x, log_scale, shift), log_scale.sum(-1)

    def inverse(params: Params, z: Array, *condition: Array) -> Moved:
        log_scale, shift = numbers(params, z, condition)
        return unscaled(z, log_scale, shift), -log_scale.sum(-1)

    return Bijector(init, forward, inverse, "conditional_affine", True)
