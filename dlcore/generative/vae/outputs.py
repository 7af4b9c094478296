"""The forms in which an encoder may give the parameters of its codes (lecture 24)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dlcore.operands import equal_shapes

SPREADS = ("log_std", "log_variance")
"""Logs of what an encoder may give beside μ: the scale or its square."""


def pair(output: Any, spread: str) -> tuple[Array, Array]:
    """μ and the log of the scale [b, d]: a pair of arrays, or one array [b, 2d] of which they are the halves.

    With spread "log_variance" the second is halved. Raises `ValueError` for another form, naming it.
    """
    if spread not in SPREADS:
        raise ValueError(f"VAE: spread must be one of {', '.join(SPREADS)}, got {spread!r}")
    mean, other = _two(output, spread)
    return mean, other if spread == "log_std" else other / 2


def pair_and_rest(output: Any, spread: str) -> tuple[Array, ...]:
    """μ, the log of the scale [b, d], and the rest of a tuple as it is: a context for a flow or a level below."""
    if isinstance(output, tuple | list) and len(output) > 2:
        return (*pair(tuple(output[:2]), spread), *output[2:])
    return pair(output, spread)


def _two(output: Any, spread: str) -> tuple[Array, Array]:
    if hasattr(output, "shape"):
        if output.shape[-1] % 2:
            size = output.shape[-1]
            raise ValueError(f"the encoder gives {size} numbers; it must give μ and {spread}, an even number")
        mean, other = jnp.split(output, 2, axis=-1)
        return mean, other
    if not isinstance(output, tuple | list) or len(output) != 2:
        found = f"{type(output).__name__} of {len(jax.tree.leaves(output))} arrays"
        raise ValueError(f"the encoder gives a {found}; it must give (μ, {spread}), or one array of both halves")
    mean, other = output
    equal_shapes("the encoder's pair", **{"mean": mean, spread: other})
    return mean, other
