"""Sums over all axes but the last, and the broadcast that is their adjoint, both fast on CPU (lecture 8.2, 15).

A bias, a scale or a mean is added to every row of [*rows, c]; its gradient is a sum over the rows. XLA's own loop for
that sum reads memory column by column and takes ten times as long as the memory needs.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MOST_SLABS = 16
"""Slabs that are added in one pass: more would be more streams than a core follows."""


@jax.custom_jvp
def sum_rows(x: Float[Array, "*rows c"]) -> Float[Array, " c"]:
    """Σ over all axes but the last, in float32 at least; returned in that dtype."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if jax.default_backend() != "cpu" or x.ndim < 2:
        return x.sum(tuple(range(x.ndim - 1)))
    first, rest = (x.shape[0], math.prod(x.shape[1:-1])) if x.ndim > 2 else (1, x.shape[0])
    x = x.reshape(first, rest, x.shape[-1])
    while (slabs := _slabs(x.shape[1])) > 1:
        x = functools.reduce(jnp.add, jnp.split(x, slabs, 1))
    x = x.reshape(math.prod(x.shape[:2]), x.shape[-1])
    return jnp.ones(len(x), x.dtype) @ x


@sum_rows.defjvp
def _sum_rows_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    # Written plainly, so that its transposition is a broadcast.
    wide = dx.astype(jnp.promote_types(dx.dtype, jnp.float32))
    return sum_rows(x), wide.sum(tuple(range(x.ndim - 1)))


def _slabs(rows: int) -> int:
    """Into how many equal slabs to cut so many rows: the largest divisor that is not too large."""
    return max(n for n in range(1, MOST_SLABS + 1) if rows % n == 0) if rows else 1


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def spread(v: Float[Array, " c"], rows: tuple[int, ...]) -> Float[Array, "*rows c"]:
    """`v` for every row: the broadcast to [*rows, c], whose gradient is `sum_rows`, rounded to the dtype of `v`."""
    return jnp.broadcast_to(v, (*rows, *v.shape))


@spread.defjvp
def _spread_jvp(rows: tuple[int, ...], primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (v,), (dv,) = primals, tangents
    wide = dv.astype(jnp.promote_types(dv.dtype, jnp.float32))
    return spread(v, rows), _copies(wide, rows).astype(dv.dtype)


def _copies(v: Array, rows: tuple[int, ...]) -> Array:
    """The same broadcast, written so that its transposition is `sum_rows`: copies side by side, step by step."""
    if jax.default_backend() != "cpu" or not rows:
        return jnp.broadcast_to(v, (*rows, *v.shape))
    first, rest = (rows[0], math.prod(rows[1:])) if len(rows) > 1 else (1, rows[0])
    factors = []
    while (slabs := _slabs(rest)) > 1:
        factors, rest = [slabs, *factors], rest // slabs
    x = (jnp.ones((first * rest, 1), v.dtype) @ v.reshape(1, -1)).reshape(first, rest, -1)
    for slabs in factors:
        x = jnp.concatenate([x] * slabs, 1)
    return x.reshape(*rows, v.shape[-1])
