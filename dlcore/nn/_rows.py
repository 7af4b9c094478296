"""Sums over positions, and the broadcasts that are their adjoints, both fast on CPU (lecture 8.2, 14.1, 15).

A bias, a scale or a mean is the same at every position of [b, *space, c]; its gradient is a sum over positions. XLA's
own loop for such a sum reads memory column by column and takes about ten times as long as the memory needs. Here the
positions of an image are added slab by slab, which is contiguous. Where the batch may be sharded the sums are XLA's.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real, Shaped

from dlcore.backend import on_cpu, on_one_device
from dlcore.nn._dtypes import widely
from dlcore.operands import wide
from dlcore.precision import add_rows

MOST_SLABS = 16
"""Slabs that are added in one pass: more would be more streams than a core follows."""


def by_slabs() -> bool:
    """Whether slabs are the faster way: on one CPU device. Of a sharded batch XLA would gather the slabs."""
    return on_cpu() and on_one_device()


def apart(x: Any) -> Any:
    """Arrays that XLA for one CPU device computes as such, not anew inside each loop that reads them."""
    return jax.lax.optimization_barrier(x) if by_slabs() else x


def gradient_once(x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """x, whose gradient stands `apart`: by itself XLA computes it again for each of the sums that it goes into."""
    return _gradient_apart(x) if by_slabs() else x


@jax.custom_jvp
def _gradient_apart(x: Array) -> Array:
    return x


@_gradient_apart.defjvp
def _gradient_apart_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return _gradient_apart(*primals), apart(*tangents)


def check_channels(layer: str, x: Array, **vectors: Array | None) -> None:
    """Raises `ValueError`, naming the shapes, unless each vector has one number for each channel of x [..., c]."""
    for name, vector in vectors.items():
        if vector is not None and jnp.shape(vector) != x.shape[-1:]:
            raise ValueError(
                f"{layer}: {name} has shape {jnp.shape(vector)}, and must have one number for each channel of {x.shape}"
            )


def add_bias(y: Float[Array, "*rows c"], bias: Float[Array, " c"]) -> Float[Array, "*rows c"]:
    """`y + bias` in their dtype; the gradient of the bias is summed in float32 at least.

    Raises `ValueError` for a bias that is not one number per channel.
    """
    check_channels("add_bias", y, bias=bias)
    return widely(lambda y, bias: y + spread(bias, y.shape[:-1]), y, bias)


def sum_rows(x: Real[Array, "*rows c"]) -> Float[Array, " c"]:
    """Σ over all axes but the last, in float32 at least; its gradient is a broadcast."""
    x = wide(x)
    if x.ndim < 2 or not by_slabs():
        return x.sum(tuple(range(x.ndim - 1)))
    if x.ndim > 2:
        x = sum_space(x)
    return add_rows(x)


@jax.custom_jvp
def sum_space(x: Real[Array, "b *space c"]) -> Float[Array, "b c"]:
    """Σ over the positions of each example, in float32 at least; its gradient is a broadcast."""
    x = wide(x)
    if not by_slabs():
        return _plain_sum(x)
    x = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])
    for slabs in _slabs(x.shape[1]):
        x = functools.reduce(jax.lax.add, jax.lax.split(x, (x.shape[1] // slabs,) * slabs, 1))
    return x.sum(1)


@sum_space.defjvp
def _sum_space_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # Written plainly, so that its transposition is a broadcast.
    return sum_space(*primals), _plain_sum(wide(*tangents))


def _plain_sum(x: Array) -> Array:
    return x.sum(tuple(range(1, x.ndim - 1)))


def _slabs(count: int) -> list[int]:
    """The numbers of slabs to cut into, one pass after the other, until no small divisor of `count` is left."""
    slabs = max((n for n in range(2, MOST_SLABS + 1) if count % n == 0), default=0) if count else 0
    return [slabs, *_slabs(count // slabs)] if slabs else []


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def spread(v: Float[Array, " c"], rows: tuple[int, ...]) -> Float[Array, "*rows c"]:
    """`v` for every row: the broadcast to [*rows, c]. Its gradient is `sum_rows`, rounded to the dtype of `v`."""
    return jnp.broadcast_to(v, (*rows, *v.shape))


@spread.defjvp
def _spread_jvp(rows: tuple[int, ...], primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (v,), (dv,) = primals, tangents
    dv_wide = wide(dv)
    if len(rows) > 1 and by_slabs():
        each = jnp.ones((rows[0], 1), dv_wide.dtype) @ dv_wide.reshape(1, -1)
        copies = _copies(each, rows[1:])
    else:
        copies = jnp.broadcast_to(dv_wide, (*rows, *v.shape))
    return spread(v, rows), copies.astype(dv.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def spread_space(v: Float[Array, "b c"], space: tuple[int, ...]) -> Float[Array, "b *space c"]:
    """`v` at every position of its example: the broadcast to [b, *space, c], whose gradient is `sum_space`."""
    return jnp.broadcast_to(v.reshape(len(v), *(1 for _ in space), -1), (len(v), *space, v.shape[-1]))


@spread_space.defjvp
def _spread_space_jvp(space: tuple[int, ...], primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (v,), (dv,) = primals, tangents
    return spread_space(v, space), _copies(wide(dv), space).astype(dv.dtype)


def _copies(v: Array, space: Sequence[int]) -> Array:
    """The broadcast of [b, c] to [b, *space, c], written so that its transposition adds slab by slab."""
    shape = (len(v), *space, v.shape[-1])
    if not by_slabs():
        return jnp.broadcast_to(v.reshape(len(v), *(1 for _ in space), -1), shape)
    passes = _slabs(math.prod(space))
    left = math.prod(space) // math.prod(passes)
    x = jnp.broadcast_to(v.reshape(len(v), 1, -1), (len(v), left, v.shape[-1]))
    for slabs in reversed(passes):
        x = jnp.concatenate([x] * slabs, 1)
    return x.reshape(shape)
