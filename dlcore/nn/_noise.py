"""Noise as a regulariser: on inputs, hidden units and weights (lecture 11.5)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn._training_noise import needs_key, training_noise
from dlcore.setting import Number, known, number
from dlcore.types import Key, Model, Params, State


def add_noise(x: Float[Array, "..."], std: Number, *, key: Key) -> Float[Array, "..."]:
    """x + ε with ε ~ N(0, σ²) drawn for every element; 0 is the identity.

    σ may be traced, and has a gradient. Raises `ValueError` unless σ ≥ 0, where it is known.

    On the inputs of a linear model with squared error this is Tikhonov's penalty: E[(w·(x + ε) − y)²] is
    (w·x − y)² + σ²‖w‖².
    """
    _check(std)
    return x if known(std) == 0 else x + jnp.asarray(std, x.dtype) * jax.random.normal(key, x.shape, x.dtype)


def Noise(std: Number) -> Model:
    """`add_noise` in training, the identity otherwise: between layers it is noise on hidden units."""
    _check(std)
    return training_noise("Noise", "noise", std, lambda x, key: add_noise(x, std, key=key))


def weight_noise(model: Model, std: Number) -> Model:
    """A model whose params are perturbed by N(0, σ²) at every application in training; gradients reach the params.

    The noise pushes towards minima with small gradients: to second order it adds ½σ² of the trace of the Hessian.
    """
    _check(std)
    off = known(std) == 0

    def apply(params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None) -> Any:
        if train and not off:
            leaves, structure = jax.tree.flatten(params)
            keys = jax.random.split(jax.random.fold_in(needs_key("weight_noise", key), len(leaves)), len(leaves))
            noisy = [add_noise(leaf, std, key=k) for leaf, k in zip(leaves, keys, strict=True)]
            params = jax.tree.unflatten(structure, noisy)
        return model.apply(params, state, *inputs, train=train, key=key)

    return model._replace(apply=apply)


def _check(std: Number) -> None:
    number(std, "noise: std", "[0, ∞)")
