"""Semantic hashing proper (lecture 20.2): codes as addresses, neighbours by flipping bits of the address.

A table maps every code in use to the rows that have it. All codes within Hamming distance r of a query's, the ball of
Σ_{i ≤ r} C(b, i) addresses, are looked up in order of their distance: the cost depends on b and r, not on the number of
rows. Several tables over different codes of the same rows find the union of their buckets. Host side, NumPy.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt32

LONGEST = 64
"""Bits of an address."""


class HashTable(NamedTuple):
    """Buckets of equal codes: `rows[starts[i]:starts[i + 1]]`, in order, have the code `keys[i]`."""

    keys: np.ndarray
    """Codes in use, uint64, ascending."""
    starts: Int[np.ndarray, " buckets+1"]
    rows: Int[np.ndarray, " n"]
    bits: int


class Found(NamedTuple):
    """What a look-up of one query found, and what it cost."""

    rows: Int[np.ndarray, " m"]
    """By distance, then by row; of several tables, each row once at its least distance."""
    distance: Int[np.ndarray, " m"]
    probes: int
    """Addresses looked up."""


def build(codes: UInt32[np.ndarray, "n w"], bits: int) -> HashTable:
    """The table of packed codes. Raises `ValueError` for more than 64 bits, or words that do not hold as many."""
    _check(codes, bits)
    keys = _addresses(codes)
    rows = np.argsort(keys, kind="stable")
    used, starts = np.unique(keys[rows], return_index=True)
    return HashTable(used, np.append(starts, len(rows)), rows, bits)


def probe(table: HashTable, query: UInt32[np.ndarray, " w"], radius: int, enough: int | None = None) -> Found:
    """All rows within `radius` bits of a query, by flipping up to so many bits of its address, nearest first.

    With `enough` the look-up ends after the first whole distance at which so many rows are found. Raises `ValueError`
    for a negative radius.

    >>> table = build(np.array([[0], [3], [1]], np.uint32), bits=2)
    >>> probe(table, np.array([0], np.uint32), radius=1).rows.tolist()
    [0, 2]
    """
    _check(query[None], table.bits)
    if radius < 0:
        raise ValueError(f"probe: radius must not be negative, got {radius}")
    address, parts, distances, probes, found = _addresses(query[None])[0], [], [], 0, 0
    for distance in range(min(radius, table.bits) + 1):
        flipped = address ^ masks(table.bits, distance)
        probes += len(flipped)
        rows = np.sort(_lookup(table, flipped))
        parts.append(rows)
        distances.append(np.full(len(rows), distance))
        found += len(rows)
        if enough is not None and found >= enough:
            break
    return Found(np.concatenate(parts), np.concatenate(distances), probes)


def probe_tables(
    tables: Sequence[HashTable], queries: Sequence[UInt32[np.ndarray, " w"]], radius: int, enough: int | None = None
) -> Found:
    """The union of what several tables find, each row once at its least distance in any of them.

    `queries` are the codes of one query, table by table. Raises `ValueError` for another number of them.
    """
    if not tables or len(tables) != len(queries):
        raise ValueError(f"probe_tables: {len(tables)} tables and {len(queries)} codes; pass one code per table")
    every = [probe(table, query, radius, enough) for table, query in zip(tables, queries, strict=True)]
    rows, distance = (np.concatenate([one[i] for one in every]) for i in (0, 1))
    order = np.lexsort((rows, distance))
    rows, distance = rows[order], distance[order]
    first = np.sort(np.unique(rows, return_index=True)[1])
    return Found(rows[first], distance[first], sum(one.probes for one in every))


@functools.lru_cache(maxsize=64)
def masks(bits: int, distance: int) -> np.ndarray:
    """All words of `bits` bits of which `distance` are 1, as uint64 [C(bits, distance)]; kept, so not to be written to.

    >>> masks(3, 2).tolist()
    [3, 5, 6]
    """
    if not distance:
        return np.zeros(1, np.uint64)
    single = np.uint64(1) << np.arange(bits, dtype=np.uint64)
    chosen = itertools.chain.from_iterable(itertools.combinations(range(bits), distance))
    places = np.fromiter(chosen, np.int64, distance * math.comb(bits, distance)).reshape(-1, distance)
    return np.bitwise_or.reduce(single[places], axis=1)


def occupancy(codes: UInt32[np.ndarray, "n w"]) -> dict[str, float]:
    """How codes fill their buckets: number of used ones, rows in the largest, mean rows in the bucket of a row, and the
    entropy −Σ p log₂ p of the bucket in bits (at most log₂ n, or the code's length)."""
    _, counts = np.unique(codes, axis=0, return_counts=True)
    p = counts / counts.sum()
    return {
        "buckets": float(len(counts)),
        "largest_bucket": float(counts.max()),
        "bucket_of_a_row": float((p * counts).sum()),
        "entropy_bits": float(-(p * np.log2(p)).sum()) + 0.0,
    }


def bit_entropy(codes: Float[np.ndarray, "n b"] | np.ndarray) -> float:
    """Mean entropy in bits of single bits of unpacked codes [n, b]: 1 where every bit is 1 for half of the rows."""
    p = np.clip(np.asarray(codes, np.float64).mean(0), 1e-300, 1)
    q = np.clip(1 - p, 1e-300, 1)
    return float(-(p * np.log2(p) + q * np.log2(q)).mean())


def _lookup(table: HashTable, addresses: np.ndarray) -> np.ndarray:
    places = np.searchsorted(table.keys, addresses)
    hit = places < len(table.keys)
    hit[hit] = table.keys[places[hit]] == addresses[hit]
    spans = [table.rows[table.starts[i] : table.starts[i + 1]] for i in places[hit]]
    return np.concatenate(spans) if spans else table.rows[:0]


def _addresses(codes: UInt32[np.ndarray, "n w"]) -> np.ndarray:
    wide = codes.astype(np.uint64)
    return wide[:, 0] | (wide[:, 1] << np.uint64(32)) if wide.shape[1] == 2 else wide[:, 0]


def _check(codes: np.ndarray, bits: int) -> None:
    if not 1 <= bits <= LONGEST or codes.ndim != 2 or codes.shape[1] != -(-bits // 32):
        raise ValueError(
            f"a hash table takes packed codes [n, words] of 1 to {LONGEST} bits, got {bits} bits in shape "
            f"{codes.shape}; use several tables of parts of longer codes"
        )
