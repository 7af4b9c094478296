"""Convolution as mathematics writes it: discrete, of any length, and by the Fourier transform (lecture 13.1–13.2)."""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from dlcore.nn._dtypes import promoted, widely
from dlcore.operands import equal_shapes

Mode = Literal["full", "same", "valid"]
"""All n + m − 1 values; the n in their middle; or those where the kernel lies inside, n − m + 1."""


def convolve(x: Real[Array, "..."], kernel: Real[Array, "..."], mode: Mode = "full") -> Float[Array, "..."]:
    """(x ∗ k)[p] = Σ_q x[q] k[p − q] along one, two or three axes, with zeros outside.

    (1, 2, 3) ∗ (4, 5, 6) = (4, 13, 28, 27, 18). Commutative, associative and distributive in mode "full". Raises
    `ValueError` for unequal numbers of axes, no elements, or a kernel that does not fit in mode "valid".
    """
    return correlate(x, jnp.flip(kernel), mode)


def correlate(x: Real[Array, "..."], kernel: Real[Array, "..."], mode: Mode = "full") -> Float[Array, "..."]:
    """(x ⋆ k)[p] = Σ_q x[p + q − m + 1] k[q]: the kernel is not turned round, as in the layers of a network."""
    _check(x, kernel, mode)
    x, kernel = promoted("correlate", x, kernel)
    widths = [_widths(m, mode) for m in kernel.shape]
    strides = (1,) * x.ndim
    one = jax.lax.conv_general_dilated(x[None, None], kernel[None, None], strides, widths, precision="highest")
    return one[0, 0]


def fft_convolve(x: Real[Array, "..."], kernel: Real[Array, "..."], mode: Mode = "full") -> Float[Array, "..."]:
    """`convolve` through F(x ∗ k) = F(x) · F(k) of both padded to n + m − 1: O(n log n) instead of O(n m)."""
    _check(x, kernel, mode)
    sizes = [n + m - 1 for n, m in zip(x.shape, kernel.shape, strict=True)]
    full = _by_fourier(x, kernel, sizes)
    cells = []
    for n, m in zip(x.shape, kernel.shape, strict=True):
        low, high = _widths(m, mode)
        cells.append(slice(m - 1 - low, n + high))
    return full[tuple(cells)]


def circular_convolve(x: Real[Array, "*n"], y: Real[Array, "*n"]) -> Float[Array, "*n"]:
    """(x ⊛ y)[p] = Σ_q x[q] y[p − q mod n], whose discrete Fourier transform is F(x) · F(y).

    Raises `ValueError` for different shapes.
    """
    equal_shapes("circular_convolve", x=x, y=y)
    return _by_fourier(x, y, x.shape)


def _by_fourier(x: Array, y: Array, sizes: Sequence[int]) -> Array:
    x, y = promoted("fft_convolve", x, y)
    return widely(lambda x, y: jnp.fft.irfftn(jnp.fft.rfftn(x, sizes) * jnp.fft.rfftn(y, sizes), sizes), x, y)


def _widths(m: int, mode: Mode) -> tuple[int, int]:
    """Zeros to add at both ends of an axis for a kernel of m."""
    return {"full": (m - 1, m - 1), "same": (m // 2, (m - 1) // 2), "valid": (0, 0)}[mode]


def _check(x: Array, kernel: Array, mode: str) -> None:
    if mode not in ("full", "same", "valid"):
        raise ValueError(f"mode must be full, same or valid, got {mode!r}")
    if x.ndim != kernel.ndim or x.ndim not in (1, 2, 3) or not x.size or not kernel.size:
        raise ValueError(
            f"a signal of shape {x.shape} and a kernel of shape {kernel.shape} must have as many axes, 1–3"
        )
    if mode == "valid" and any(m > n for n, m in zip(x.shape, kernel.shape, strict=True)):
        raise ValueError(f"a kernel of shape {kernel.shape} does not lie inside a signal of shape {x.shape}")
