"""Exact search by Hamming distance among packed codes, in bounded memory and over many devices (lecture 20.2).

Ties: neighbours are ordered by distance, then by index. The database is cut into blocks of consecutive codes. Only the
least distance of each block is kept, and all codes of the k blocks whose (least distance, number) come first are
ranked. That is exact: where k other blocks come before that of x, each holds a code that comes before x itself.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Int, UInt32

from dlcore.operands import has_shape, known
from dlcore.retrieval._codes import WORD
from dlcore.setting import whole


class Neighbours(NamedTuple):
    """The k nearest codes of every query, nearest first, ties by index."""

    index: Int[Array, "q k"]
    """Rows of the database, int32."""
    distance: Int[Array, "q k"]
    """Bits that differ, int32."""


def search(
    queries: UInt32[Array, "q w"],
    database: UInt32[Array, "n v"],
    k: int,
    *,
    leave_out: Int[Array, " q"] | None = None,
    block: int = 128,
    mesh: Mesh | None = None,
) -> Neighbours:
    """The k codes of the database at least Hamming distance from each query, exactly, ties by index.

    Beside a copy of the database memory is O(n / block + k · block) for one query at a time. `leave_out` names for each
    query the row that it is itself, if it is one of the database. Over a `mesh` of one axis every device searches its
    part of the rows, with the same result. Raises `ValueError` for words of different number, a k beyond the database,
    a `leave_out` that is not one row per query, and a database searched by itself without it.
    """
    if queries.shape[-1] != database.shape[-1]:
        raise ValueError(f"search: queries of {queries.shape[-1]} words, database of {database.shape[-1]}; pack alike")
    size, spared = len(database), int(leave_out is not None)
    if whole(k, "search: k") > size - spared:
        raise ValueError(f"search: k={k} of {size} codes{' less the query itself' * spared}; use 1 to {size - spared}")
    whole(block, "search: block")
    if spared:
        has_shape("search", "leave_out", leave_out, queries.shape[:1], f"one row for each of queries {queries.shape}")
    if not spared and _same(queries, database):
        raise ValueError("search: the queries are the database and would find themselves; pass leave_out=jnp.arange(n)")
    if mesh is None:
        found = _search(queries, database, jnp.int32(size), k + spared, block)
    else:
        found = _search_sharded(queries, database, k + spared, block, mesh)
    return found if leave_out is None else _without(found, leave_out)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _search(
    queries: UInt32[Array, "q w"], database: UInt32[Array, "n w"], valid: Int[Array, ""], k: int, block: int
) -> Neighbours:
    """As `search`, among the first `valid` rows; beyond them distances are larger than any."""
    size, words = database.shape
    count = -(-size // block)
    # Copies of the last code do not change the least distance of their block.
    if rest := count * block - size:
        database = jnp.concatenate([database, jnp.broadcast_to(database[-1:], (rest, words))])
    blocks = database.reshape(count, block, words)
    across = blocks.transpose(2, 1, 0)  # the longest axis last, where the processor counts many codes at once
    narrow, beyond = (jnp.uint8 if words * WORD < 255 else jnp.uint16), words * WORD + 1

    def one(query: UInt32[Array, " w"]) -> Neighbours:
        differing = lambda w: jax.lax.population_count(across[w] ^ query[w]).astype(narrow)  # noqa: E731
        least = functools.reduce(jnp.add, map(differing, range(words))).min(0).astype(jnp.int32)
        least = jnp.where(jnp.arange(count) * block < valid, least, beyond)
        chosen = jnp.sort(_first(least, min(k, count)))
        index = (chosen[:, None] * block + jnp.arange(block)).reshape(-1)
        distance = jax.lax.population_count(blocks[chosen] ^ query).astype(jnp.int32).sum(-1).reshape(-1)
        distance = jnp.where(index < valid, distance, beyond)
        nearest = _first(distance, k)
        return Neighbours(index[nearest].astype(jnp.int32), distance[nearest])

    return jax.lax.map(one, queries)


def _first(values: Int[Array, "... n"], k: int) -> Int[Array, "... k"]:
    """Places of the k least values, equal ones in order: `top_k` puts the lower place first."""
    # Small integers are exact as floats, for which top_k has a fast path on CPU.
    return jax.lax.top_k(-values.astype(jnp.float32), k)[1]


def _search_sharded(
    queries: UInt32[Array, "q w"], database: UInt32[Array, "n w"], k: int, block: int, mesh: Mesh
) -> Neighbours:
    (axis,), devices, size = mesh.axis_names, mesh.devices.size, len(database)
    share = -(-size // devices)
    padded = jnp.concatenate([database, jnp.broadcast_to(database[-1:], (share * devices - size, database.shape[1]))])

    def local(queries: Array, rows: Array) -> Neighbours:
        offset = jax.lax.axis_index(axis) * share
        found = _search(queries, rows, jnp.clip(size - offset, 0, share), min(k, share), block)
        # In the order of the devices, so that of equal distances the lower index stands first.
        parts = Neighbours(found.index + offset, found.distance)
        every = jax.tree.map(lambda x: jax.lax.all_gather(x, axis, axis=1, tiled=True), parts)
        nearest = _first(every.distance, k)
        return jax.tree.map(lambda x: jnp.take_along_axis(x, nearest, 1), every)

    whole, split = PartitionSpec(), PartitionSpec(axis)
    spread = jax.shard_map(local, mesh=mesh, in_specs=(whole, split), out_specs=whole, check_vma=False)
    return jax.jit(spread)(queries, padded)


def _same(queries: Array, database: Array) -> bool:
    alike = queries.shape == database.shape and len(database) > 1 and known(queries, database)
    return alike and bool((np.asarray(queries) == np.asarray(database)).all())


def _without(found: Neighbours, leave_out: Int[Array, " q"]) -> Neighbours:
    """All but one neighbour: the row left out, or else the last."""
    own = found.index == leave_out[:, None]
    order = jnp.argsort(own, axis=1, stable=True)[:, :-1]
    return jax.tree.map(lambda x: jnp.take_along_axis(x, order, 1), found)
