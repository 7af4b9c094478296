"""A random key that may be split, but not drawn from: it shows whether a computation needs a real one."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl

from dlcore.tree import path_of


def _refusing(name: str, message: str) -> Any:
    def refuse(*_: Any) -> jax.Array:
        raise ValueError(message)

    return define_prng_impl(
        key_shape=(2,),
        seed=lambda seed: jnp.zeros(2, jnp.uint32),
        split=lambda key, shape: jnp.broadcast_to(key, (*shape, 2)),
        random_bits=refuse,
        fold_in=lambda key, data: key,
        name=name,
        tag=name,
    )


UNSET = _refusing("unset", "this NNX module draws random numbers, and needs a key; pass key=... to apply")
"""Drawing bits from a key of this kind raises `ValueError`."""

FIXED = _refusing(
    "fixed",
    "this NNX module draws random numbers from a stream of a seed of its own, the same in every call; make the stream "
    "from the rngs that the function is given, lambda rngs: Net(rngs=rngs)",
)


def unset(shape: tuple[int, ...] = (), impl: Any = UNSET) -> jax.Array:
    """Keys without a value."""
    return jax.random.wrap_key_data(jnp.zeros((*shape, 2), jnp.uint32), impl=impl)


def without_keys(tree: Any, paths: Collection[str], impl: Any = UNSET) -> Any:
    """The tree with the keys at these paths unset."""

    def leaf(path: Any, x: Any) -> Any:
        key = path_of(path) in paths and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return unset(x.shape, impl) if key else x

    return jax.tree_util.tree_map_with_path(leaf, tree)
