"""Convolution, forward and backward, as a sum over the taps of the kernel (lecture 9.2, 14.1)."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn import Padding, copies, pad_widths, per_axis
from dlcore.operands import has_shape


class Geometry(NamedTuple):
    """Where a window stands on its input: sizes and strides, input and added cells (low, high), positions per axis."""

    window: tuple[int, ...]
    stride: tuple[int, ...]
    space: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]
    positions: tuple[int, ...]

    def taps(self) -> Iterator[tuple[int, ...]]:
        """Each cell of the window, by its place."""
        return itertools.product(*map(range, self.window))

    def pad(self, x: Array, value: float = 0.0) -> Array:
        """The input [b, *space, c] with `value` in the added cells."""
        return jnp.pad(x, ((0, 0), *self.widths, (0, 0)), constant_values=value)

    def take(self, padded: Array, tap: tuple[int, ...]) -> Array:
        """The cells [b, *positions, c] of the padded input that the window's cell `tap` meets."""
        axes = zip(tap, self.positions, self.stride, strict=True)
        return padded[(slice(None), *(slice(k, k + (n - 1) * s + 1, s) for k, n, s in axes))]

    def put(self, values: Array, tap: tuple[int, ...]) -> Array:
        """Values [b, *positions, c] in the cells that `take` took them from, zeros elsewhere, added cells cut off."""
        edges = []
        for k, n, s, size, (low, _) in zip(tap, self.positions, self.stride, self.space, self.widths, strict=True):
            reach = (n - 1) * s + 1
            edges.append((k - low, size + low - k - reach, s - 1))
        return jax.lax.pad(values, jnp.zeros((), values.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def geometry(
    space: Sequence[int], window: Sequence[int], stride: int | Sequence[int] = 1, padding: Padding = "zero"
) -> Geometry:
    """Windows over `space`, padded with zeros or not at all; raises `ValueError` for other padding or a misfit."""
    if copies(padding):
        raise ValueError(f"padding must be valid, zero or explicit where backward is written out, got {padding!r}")
    strides = per_axis(stride, len(space), "stride")
    widths = pad_widths(space, window, strides, (1,) * len(space), padding)
    positions = [
        (n + low + high - w) // s + 1 for n, w, s, (low, high) in zip(space, window, strides, widths, strict=True)
    ]
    return Geometry(tuple(window), strides, tuple(space), tuple(widths), tuple(positions))


class ConvCache(NamedTuple):
    """The input and the kernel of a convolution."""

    x: Float[Array, "b *space c_in"]
    kernel: Float[Array, "*window c_in c_out"]


class ConvGradients(NamedTuple):
    """∂L/∂x, ∂L/∂W and ∂L/∂b."""

    x: Float[Array, "b *space c_in"]
    kernel: Float[Array, "*window c_in c_out"]
    bias: Float[Array, " c_out"]


def conv_forward(
    x: Float[Array, "b *space c_in"],
    kernel: Float[Array, "*window c_kernel c_out"],
    bias: Float[Array, " c_out"] | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "zero",
) -> tuple[Float[Array, "b *out c_out"], ConvCache]:
    """y[p] = Σ_k x[p·stride + k] W[k] + b, any number of spatial axes; `dlcore.nn.conv` without groups.

    Raises `ValueError` for padding other than valid, zero or explicit, and for shapes that do not fit.
    """
    if x.ndim != kernel.ndim or x.shape[-1] != kernel.shape[-2]:
        raise ValueError(f"conv_forward: input of shape {x.shape} does not fit a kernel of shape {kernel.shape}")
    if bias is not None:
        has_shape("conv_forward", "bias", bias, kernel.shape[-1:], f"one number for each output of {kernel.shape}")
    where = geometry(x.shape[1:-1], kernel.shape[:-2], stride, padding)
    padded = where.pad(x)
    y = sum(where.take(padded, tap) @ kernel[tap] for tap in where.taps())
    return (y if bias is None else y + bias), ConvCache(x, kernel)


def conv_backward(
    cache: ConvCache,
    cotangent: Float[Array, "b *out c_out"],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = "zero",
) -> ConvGradients:
    """∂L/∂W[k] = Σ_p x[p·stride + k]ᵀ ȳ[p]; ∂L/∂x sends each ȳ[p] W[k]ᵀ back to the cell that it came from.

    `stride` and `padding` are those of the forward pass. The bias's gradient is the sum of ȳ over batch and positions.
    Raises `ValueError` for a cotangent that is not of the output's shape.
    """
    where = geometry(cache.x.shape[1:-1], cache.kernel.shape[:-2], stride, padding)
    shape = (len(cache.x), *where.positions, cache.kernel.shape[-1])
    has_shape("conv_backward", "cotangent", cotangent, shape, "that of the output")
    padded, every = where.pad(cache.x), tuple(range(cotangent.ndim - 1))
    x = sum(where.put(cotangent @ cache.kernel[tap].T, tap) for tap in where.taps())
    kernel = [jnp.tensordot(where.take(padded, tap), cotangent, (every, every)) for tap in where.taps()]
    return ConvGradients(x, jnp.stack(kernel).reshape(cache.kernel.shape), cotangent.sum(every))
