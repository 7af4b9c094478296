"""The norm of a whole tree, at the speed of memory on CPU (lecture 9.3, 10.1)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from dlcore.backend import on_cpu, on_one_device
from dlcore.precision import add_rows


def global_norm(tree: Any) -> Float[Array, ""]:
    """√Σ |x|² over all entries of all leaves, added up in float32 at least; 0 for a tree without leaves."""
    return jnp.sqrt(sum(map(_square_sum, jax.tree.leaves(tree)), jnp.float32(0)))


def _square_sum(x: Shaped[Array, "*s"]) -> Float[Array, ""]:
    x = jnp.abs(x) if jnp.iscomplexobj(x) else x
    squares = jnp.square(jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32)))
    if x.ndim < 2 or not (on_cpu() and on_one_device()):
        return squares.sum()
    # Without XLA's fused reductions (see `dlcore.parallel.backend.protect`) its loop over all entries takes longer than
    # a product with ones, unless the squares become part of that product, which then is a loop column by column.
    return add_rows(jax.lax.optimization_barrier(squares.reshape(-1, x.shape[-1]))).sum()
