"""Backpropagation as a product of layer Jacobians (lecture 9.6).

∂L/∂θ_l = ∂L/∂h_n · ∂h_n/∂h_{n−1} ⋯ ∂h_{l+1}/∂h_l · ∂h_l/∂θ_l, every factor a matrix over flattened arrays. The
products give the same numbers as `chain`, which never forms the matrices.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.backprop._chain import Loss, Pair
from dlcore.precision import matmul
from dlcore.types import Params


class LayerJacobians(NamedTuple):
    """∂h/∂x [m, n] and, leaf by leaf, ∂h/∂θ [m, *leaf] of a layer with m outputs and n inputs, batch included."""

    x: Float[Array, "m n"]
    params: Params


def layer_jacobians(pair: Pair, params: Params, x: Array) -> tuple[Array, LayerJacobians]:
    """The output of a layer and its Jacobians: row i is the backward pass of the i-th unit vector."""
    y, cache = pair.forward(params, x)
    basis = jnp.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
    rows, x_rows = jax.vmap(pair.backward, in_axes=(None, 0))(cache, basis)
    return y, LayerJacobians(x_rows.reshape(y.size, x.size), rows)


def gradient_by_jacobians(
    pairs: Mapping[str, Pair], loss: Loss, params: Params, x: Array, targets: Array
) -> dict[str, Any]:
    """∂L/∂params of `chain(**pairs)`, by multiplying the Jacobians from the loss to each layer."""
    found: dict[str, LayerJacobians] = {}
    for name, pair in pairs.items():
        x, found[name] = layer_jacobians(pair, params.get(name, {}), x)
    row = loss.backward(loss.forward(x, targets)[1]).reshape(-1)
    gradients = {}
    for name, jacobians in reversed(found.items()):
        if jacobians.params:
            gradients[name] = jax.tree.map(lambda j: jnp.tensordot(row, j, 1, precision="highest"), jacobians.params)  # noqa: B023
        row = matmul(row, jacobians.x)
    return gradients


def dense_jacobian(kernel: Float[Array, "n m"]) -> Float[Array, "m n"]:
    """∂(x W + b)/∂x = Wᵀ for one example."""
    return kernel.T


def activation_jacobian(slopes: Float[Array, " n"]) -> Float[Array, "n n"]:
    """∂φ(x)/∂x = diag φ′(x): an element-wise function does not mix."""
    return jnp.diag(slopes)


def softmax_jacobian(probabilities: Float[Array, " c"]) -> Float[Array, "c c"]:
    """∂softmax(a)/∂a = diag p − p pᵀ."""
    return jnp.diag(probabilities) - jnp.outer(probabilities, probabilities)


def multiplications(sizes: Sequence[int], *, reverse: bool = True) -> int:
    """Multiplications in ∂L/∂h_n · J_n ⋯ J_1 with J_l of shape [sizes[l], sizes[l − 1]] and one loss.

    From the loss backward each product is a row with a matrix; from the input forward a matrix with a matrix. That
    is why the gradient of one number is taken in reverse.
    """
    matrices = list(zip(sizes[1:], sizes[:-1], strict=True))
    if reverse:
        return sum(m * n for m, n in matrices)
    return sum(m * n * sizes[0] for m, n in matrices[1:]) + sizes[-1] * sizes[0]
