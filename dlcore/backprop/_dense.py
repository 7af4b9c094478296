"""Fully connected layer, forward and backward (lecture 9.2)."""

from typing import NamedTuple

from jaxtyping import Array, Float


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
    """y = x W + b."""
    return x @ kernel + bias, DenseCache(x, kernel)


def dense_backward(cache: DenseCache, cotangent: Float[Array, "b m"]) -> DenseGradients:
    """∂L/∂x = ȳ Wᵀ, ∂L/∂W = xᵀ ȳ, ∂L/∂b = Σ_batch ȳ (Rumelhart et al. 1986)."""
    return DenseGradients(cotangent @ cache.kernel.T, cache.x.T @ cotangent, cotangent.sum(0))
