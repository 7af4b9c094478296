"""A learned number for every place: what a network that treats all positions alike cannot know."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from dlcore.nn._dtypes import promoted, widely
from dlcore.nn.init import zeros
from dlcore.types import Input, Key, Model, Params, State


def PositionBias() -> Model:
    """y = x + b with one learned number per position and channel, starting at 0: tells a convolution where it is."""

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return {"bias": zeros(key, x.shape[1:])}, {}

    def apply(
        params: Params, state: State, x: Real[Array, "b *s"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b *s"], State]:
        return widely(jnp.add, *promoted("PositionBias", x, params["bias"])), state

    return Model(init, apply, "position_bias")
