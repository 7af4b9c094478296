"""What Glow's mixing of channels has besides its params: a permutation and signs, constants of dlcore's map.

They lie in the state of the workload, which the other sides read; dlcore's loss hands it on as it is.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from dlcore.generative import flow
from dlcore.types import State


def constants(channels: int, seed: int) -> State:
    """`permutation` P [c, c] and `signs` of s [c] of `InvertibleConvPLU(channels, seed=seed)`: W = P L (U + diag(s)).

    W is what the map makes of the unit vectors at its start, where its decomposition is the one by row exchanges.
    """
    bijector, unit = flow.InvertibleConvPLU(channels, seed=seed), jnp.eye(channels)
    start, _ = bijector.forward(bijector.init(jax.random.key(0), unit), unit)
    permutation, _, upper = scipy.linalg.lu(np.asarray(start).T)
    return {"permutation": permutation.astype(np.float32), "signs": np.sign(np.diag(upper))}


def mixer_constants(colours: int, *, scales: int, steps: int) -> State:
    """Of all steps of `flow.Glow`, by their paths, for images of so many colours."""

    def scale(index: int, channels: int) -> State:
        found = {f"step_{i}": {"mix": constants(channels, index * steps + i)} for i in range(steps)}
        return found if index == scales - 1 else found | {"rest": scale(index + 1, 2 * channels)}

    return scale(0, 4 * colours)
