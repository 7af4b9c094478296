"""The training state: making it, naming its leaves, and telling two states apart."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.tree import named_leaves
from dlcore.types import Key, Params, State, TrainState, Update, View


def create(key: Key, init: Callable[[Key], tuple[Params, State]], update: Update) -> TrainState:
    """A state at step 0: params from `init`, and the memory of the update.

    No two leaves share memory, so that a step may reuse the state's: some optimisers remember where they started.
    """
    init_key, train_key = jax.random.split(key)
    params, state = init(init_key)
    memory = jax.tree.map(jnp.copy, update.init(params, state))
    return TrainState(jnp.int32(0), jax.random.key_data(train_key), params, state, memory)


def view_of(update: Update, state: TrainState) -> View:
    """What counts: the params and model state that evaluation and samples use, and what the update reports."""
    return update.view(state.memory, View(state.params, state.state, {}))


def count_params(params: Params) -> int:
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


def _numbers(leaf: jax.Array | np.ndarray | np.generic) -> jax.Array | np.ndarray | np.generic:
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
