"""Changes of resolution without weights (lecture 25)."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn._dtypes import widely
from dlcore.setting import whole


def upsample(x: Float[Array, "b h w c"], factor: int = 2) -> Float[Array, "b h2 w2 c"]:
    """`factor` times the height and width, each pixel repeated.

    Raises `ValueError` for a factor below 1.
    """
    factor = whole(factor, "upsample: factor")
    return widely(lambda x: _repeat(_repeat(x, factor, 1), factor, 2), x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _repeat(x: Array, factor: int, axis: int) -> Array:
    return x.repeat(factor, axis)


@_repeat.defjvp
def _repeat_jvp(factor: int, axis: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # Written as a stack, whose transposition adds `factor` slices: XLA's own sum over pairs of cells is slow on CPU.
    (x,), (dx,) = primals, tangents
    return _repeat(x, factor, axis), jnp.stack([dx] * factor, axis + 1).reshape(
        *x.shape[:axis], factor * x.shape[axis], *x.shape[axis + 1 :]
    )
