"""Matrix product of many rows with one kernel, whose gradients are fast too (lecture 8.2)."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from dlcore.backend import on_cpu
from dlcore.nn._dtypes import promoted, widely

MANY_ROWS = 2048
"""From here on the gradient of the kernel, a product over all rows, is the slow part on CPU."""

BLOCKS = 8
"""Most products that the rows are split into; also the number of devices over which the split costs nothing."""


def row_product(x: Real[Array, "*rows n"], kernel: Real[Array, "n m"]) -> Float[Array, "*rows m"]:
    """x @ kernel over the last axis.

    On CPU many rows become a few products side by side. From a single one XLA makes a gradient of the kernel that
    transposes all of x on one core, and takes up to six times as long.
    """
    x, kernel = promoted("row_product", x, kernel)
    rows = math.prod(x.shape[:-1])
    blocks = math.gcd(x.shape[0], BLOCKS) if x.ndim > 1 else 1
    if blocks == 1 or rows < MANY_ROWS or not on_cpu():
        return product(x, kernel)
    split = x.reshape(blocks, rows // blocks, x.shape[-1])
    y = widely(lambda x, kernel: x @ jnp.broadcast_to(kernel, (blocks, *kernel.shape)), split, kernel)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def product(x: Float[Array, "*rows n"], kernel: Float[Array, "n m"]) -> Float[Array, "*rows m"]:
    """x @ kernel of one dtype.

    On CPU XLA makes of a product with equal numbers, such as the gradient of a sum, a sum in their own dtype.
    """
    return widely(jnp.matmul, x, kernel) if on_cpu() else x @ kernel
