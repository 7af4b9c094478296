"""A condition for a network that takes none (lecture 22, 24)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn import Call, compose
from dlcore.types import Model


def Beside(network: Model) -> Model:
    """(x [b, ...], condition [b, c]) ↦ network of the flattened x with the condition beside it, [b, n + c]."""

    def forward(call: Call, x: Float[Array, "b ..."], condition: Float[Array, "b c"]) -> Array:
        return call("network", jnp.concatenate([x.reshape(len(x), -1), condition], axis=-1))

    return compose(forward, network=network)._replace(kind="beside")
