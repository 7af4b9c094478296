"""Keys by name: adding a part leaves the random numbers of the others alone."""

import zlib

import jax

from dlcore.types import Key


def fold_name(key: Key, name: str, index: int = 0) -> Key:
    """The key of `name`, or of its call number `index`."""
    key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return jax.random.fold_in(key, index) if index else key
