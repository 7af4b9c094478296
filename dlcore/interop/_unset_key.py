"""A random key that may be split, but not drawn from: it shows whether a computation needs a real one."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl


def _refuse(*_: Any) -> jax.Array:
    raise ValueError("this NNX module draws random numbers, and needs a key; pass key=... to apply")


UNSET = define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jnp.zeros(2, jnp.uint32),
    split=lambda key, shape: jnp.broadcast_to(key, (*shape, 2)),
    random_bits=_refuse,
    fold_in=lambda key, data: key,
    name="unset",
    tag="unset",
)
"""Drawing bits from a key of this kind raises `ValueError`."""


def unset(shape: tuple[int, ...] = ()) -> jax.Array:
    """Keys without a value."""
    return jax.random.wrap_key_data(jnp.zeros((*shape, 2), jnp.uint32), impl=UNSET)


def without_key(tree: Any) -> Any:
    """The tree with every key in it unset."""
    return jax.tree.map(lambda x: unset(x.shape) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)
