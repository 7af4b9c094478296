"""Fully connected layer, forward and backward (lecture 9.2)."""

from typing import NamedTuple

from jaxtyping import Array, Float

from dlcore.operands import has_shape


class DenseCache(NamedTuple):
    """The input and the matrix of a dense layer."""

    x: Float[Array, "b n"]
    kernel: Float[Array, "n m"]


class DenseGradients(NamedTuple):
    """∂L/∂x, ∂L/∂W and ∂L/∂b."""

    x: Float[Array, "b n"]
    kernel: Float[Array, "n m"]
    bias: Float[Array, " m"]


def dense_forward(
    x: Float[Array, "b n"], kernel: Float[Array, "n m"], bias: Float[Array, " m"]
) -> tuple[Float[Array, "b m"], DenseCache]:
    """y = x W + b. Raises `ValueError` for shapes that do not fit."""
    if x.ndim != 2 or kernel.shape != (x.shape[1], *bias.shape) or bias.ndim != 1:
        raise ValueError(f"dense_forward: x {x.shape}, kernel {kernel.shape} and bias {bias.shape} do not fit")
    return x @ kernel + bias, DenseCache(x, kernel)


def dense_backward(cache: DenseCache, cotangent: Float[Array, "b m"]) -> DenseGradients:
    """∂L/∂x = ȳ Wᵀ, ∂L/∂W = xᵀ ȳ, ∂L/∂b = Σ_batch ȳ (Rumelhart et al. 1986).

    Raises `ValueError` for a cotangent that is not of the output's shape.
    """
    shape = (len(cache.x), cache.kernel.shape[1])
    has_shape("dense_backward", "cotangent", cotangent, shape, "that of the output")
    return DenseGradients(cotangent @ cache.kernel.T, cache.x.T @ cotangent, cotangent.sum(0))
