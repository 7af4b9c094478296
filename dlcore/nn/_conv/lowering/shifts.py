"""Convolution of many positions whose kernel has a fast gradient on CPU (lecture 14.1–14.5).

From XLA's convolution that gradient is a convolution with a window as large as the image, for which it transposes
both arrays: two to four times as slow as the convolution itself.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Real

from dlcore.backend import on_one_device
from dlcore.nn._conv.lowering.xla import Widths, conv_by_xla
from dlcore.nn._dtypes import promoted, widely
from dlcore.nn._product import row_product

MANY_PRODUCTS = 2**28
"""Multiply–adds from which on this is the faster way, as measured."""

CHUNK_BYTES = 2**23
"""Size of the shifted copies that are made at once: what caches hold."""


def many_products(
    x: Float[Array, "b *space c_in"],
    kernel: Float[Array, "*window c_group c_out"],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> bool:
    """Whether `conv_by_shifts` takes this convolution, and is the faster way on CPU."""
    fits = x.ndim == 4 and groups == 1 and {*stride, *dilation} == {1} and x.dtype == kernel.dtype == jnp.float32
    return fits and math.prod(x.shape[:-1]) * kernel.size >= MANY_PRODUCTS


def conv_by_shifts(
    x: Real[Array, "b h w c_in"], kernel: Real[Array, "tall wide c_in c_out"], widths: Widths
) -> Float[Array, "b h_out w_out c_out"]:
    """The `dlcore.nn.conv` of an input padded by zeros of `widths`, with stride 1.

    Kernel[i, j] has the gradient Σ x̂[p + i, q + j] dy[p, q] over positions. With the copies X_j of x, moved by j along
    the width, and D_i of dy, moved by i along the height, all of them are the blocks of one product
    [X_0, X_1, ...]ᵀ [D_0, D_1, ...], whose factors hold three copies each for a 3×3 kernel instead of nine.
    """
    x, kernel = promoted("conv", x, kernel)
    return _by_shifts(x, kernel, tuple(widths), _chunks(x, kernel))


def _chunks(x: Array, kernel: Array) -> int:
    """Into how many parts of whole images to cut the batch; one where it may be sharded."""
    if not on_one_device():
        return 1
    tall, wide, channels, features = kernel.shape
    copies = math.prod(x.shape[:-1]) * max(wide * channels, tall * features) * x.dtype.itemsize
    return next((count for count in range(copies // CHUNK_BYTES or 1, len(x)) if len(x) % count == 0), len(x))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _by_shifts(x: Array, kernel: Array, widths: Widths, chunks: int) -> Array:
    return conv_by_xla(x, kernel, (1, 1), widths, (1, 1))


def _by_shifts_jvp(widths: Widths, chunks: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """A convolution is linear in x and in the kernel; where a tangent is known to be 0 its part is left out."""
    (x, kernel), (dx, dkernel) = primals, tangents
    y = _by_shifts(x, kernel, widths, chunks)
    parts = []
    if not isinstance(dx, SymbolicZero):
        parts.append(conv_by_xla(dx, kernel, (1, 1), widths, (1, 1)))
    if not isinstance(dkernel, SymbolicZero):
        parts.append(sum_of_shifts(x, dkernel, widths, chunks))
    return y, sum(parts[1:], start=parts[0]) if parts else jnp.zeros_like(y)


_by_shifts.defjvp(_by_shifts_jvp, symbolic_zeros=True)


def sum_of_shifts(
    x: Real[Array, "b h w c_in"], kernel: Real[Array, "tall wide c_in c_out"], widths: Widths, chunks: int = 1
) -> Float[Array, "b h_out w_out c_out"]:
    """The same convolution, written so that its transposition is the gradient above, `chunks` parts of b in turn."""
    # Rematerialised: the copies of x are made when the gradient wants them, not kept from the forward pass.
    x, kernel = promoted("conv", x, kernel)
    shifts = functools.partial(_sum_of_shifts, widths=widths)
    part = jax.checkpoint(lambda x, kernel: widely(shifts, x, kernel), prevent_cse=False)
    if chunks == 1:
        return part(x, kernel)
    _, y = jax.lax.scan(lambda _, x: (None, part(x, kernel)), None, x.reshape(chunks, -1, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


def _sum_of_shifts(x: Array, kernel: Array, widths: Widths) -> Array:
    tall, wide, channels, features = kernel.shape
    (above, below), (left, right) = widths
    images, height, width, _ = x.shape
    height_out, width_out = height + above + below - tall + 1, width + left + right - wide + 1
    seen = moved_copies(x, wide, axis=2, by=left, size=width_out, new=3)
    columns = kernel.transpose(1, 2, 0, 3).reshape(wide * channels, tall * features)
    parts = row_product(seen.reshape(images * height, width_out, wide * channels), columns)
    return moved_sum(parts.reshape(images, height, width_out, tall, features), axis=1, by=above, size=height_out, old=3)


def moved(x: Array, axis: int, by: int, size: int) -> Array:
    """x `by` cells further along the axis, of which the first `size` cells are kept; zeros come in."""
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (by, size - x.shape[axis] - by, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), widths)


def moved_copies(x: Array, count: int, *, axis: int, by: int, size: int, new: int) -> Array:
    """Copies of x on the axis `new`, moved by `by`, by − 1, ... cells."""
    # The barriers here and below keep the copies in this layout; XLA writes those of a merged shape cell by cell.
    return jax.lax.optimization_barrier(jnp.stack([moved(x, axis, by - i, size) for i in range(count)], new))


def moved_sum(parts: Array, *, axis: int, by: int, size: int, old: int) -> Array:
    """Sum over the axis `old`, moved by `by`, by − 1, ... cells along `axis`: the adjoint of making copies."""
    split = jax.lax.split(jax.lax.optimization_barrier(parts), (1,) * parts.shape[old], old)
    return sum(moved(part.squeeze(old), axis, by - i, size) for i, part in enumerate(split))
