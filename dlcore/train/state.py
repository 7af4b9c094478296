"""The training state: making it, naming its leaves, and telling two states apart."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlcore.optim.extra_arguments import Transformation
from dlcore.tree import named_leaves
from dlcore.types import Key, Params, State, TrainState

Trained: TypeAlias = Params | optax.LookaheadParams
"""What an optimiser moves: params, or for `optax.lookahead` two copies of them."""

WHOLE = "params"
"""Name of the optimiser that serves all params; another name is the branch of `params` that it serves."""


def create(
    key: Key,
    init: Callable[[Key], tuple[Trained, State]],
    optimizers: Mapping[str, Transformation],
    *,
    ema: bool = False,
) -> TrainState:
    """A state at step 0: params from `init`, one optimiser state per name, and averages if `ema`.

    An optimiser called `"params"` serves the whole tree, any other name the branch `params[name]`. No two leaves share
    memory, so that a step may reuse the state's: some optimisers remember the params that they started from.
    Raises `ValueError` for a name that is neither.
    """
    init_key, train_key = jax.random.split(key)
    params, state = init(init_key)
    opt = {name: tx.init(select(params, name)) for name, tx in optimizers.items()}
    average = {"params": params, "state": state} if ema else {}
    opt, average = jax.tree.map(jnp.copy, (opt, average))
    return TrainState(jnp.int32(0), jax.random.key_data(train_key), params, state, opt, average)


def select(params: Trained, name: str) -> Trained:
    """The params that the optimiser `name` serves."""
    if name == WHOLE:
        return params
    if name not in params:
        raise ValueError(
            f"optimizer {name!r} names no branch of params; use {WHOLE!r} for all, or one of {sorted(params)}"
        )
    return params[name]


def replace(params: Trained, name: str, branch: Trained) -> Trained:
    """`params` with the part that the optimiser `name` serves exchanged for `branch`."""
    return branch if name == WHOLE else {**params, name: branch}


def fast(params: Trained) -> Params:
    """The params that gradients are taken at: of each `optax.LookaheadParams` in the tree the fast ones."""
    return _of_pairs(params, lambda pair: pair.fast)


def slow(params: Trained) -> Params:
    """The params that count in evaluation: of each `optax.LookaheadParams` in the tree the slow ones."""
    return _of_pairs(params, lambda pair: pair.slow)


def _of_pairs(params: Trained, side: Callable[[optax.LookaheadParams], Params]) -> Params:
    paired = lambda node: isinstance(node, optax.LookaheadParams)  # noqa: E731
    return jax.tree.map(lambda node: side(node) if paired(node) else node, params, is_leaf=paired)


def count_params(params: Trained) -> int:
    """How many numbers are learned."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def sha256(tree: Any) -> str:
    """Digest over path, dtype, shape and bytes of every leaf: equal exactly when the trees are bit-equal.

    Leaves must be readable from this process (replicated, or on its own devices).
    """
    digest = hashlib.sha256()
    for path, leaf in named_leaves(tree):
        array = np.asarray(_numbers(leaf))
        digest.update(f"{path}|{array.dtype}|{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def checksums(tree: Any) -> jax.Array:
    """One uint32 per leaf, computed where the leaf lives: Σ_i mix(bits_i + mix(i)) mod 2³².

    `mix` is a bijection of 32 bits, so that any change of a single element changes the sum. Integer sums do not
    depend on how the leaf is split over devices.
    """
    return jnp.stack([_checksum(leaf) for leaf in jax.tree.leaves(tree)])


def _numbers(leaf: jax.Array) -> jax.Array:
    """The leaf, or what is behind it if it is a key: some optimisers draw noise of their own."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _checksum(leaf: jax.Array) -> jax.Array:
    leaf = _numbers(leaf)
    bits = leaf.astype(jnp.uint8) if leaf.dtype == jnp.bool_ else leaf
    unsigned = {1: jnp.uint8, 2: jnp.uint16}.get(bits.dtype.itemsize, jnp.uint32)
    bits = jax.lax.bitcast_convert_type(bits.reshape(-1), unsigned).reshape(-1).astype(jnp.uint32)
    return jnp.sum(_mix(bits + _mix(jnp.arange(bits.size, dtype=jnp.uint32))), dtype=jnp.uint32)


def _mix(x: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3 (Appleby 2011)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
