"""Codes judged by what they find: every query against the whole database, in bounded memory (lecture 20.2).

An item is relevant if it has the query's label. Codes may come in several tables, as codes of several hash functions
do: an item's distance is then its least one over the tables.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

from dlcore.operands import has_shape
from dlcore.retrieval import _ranking as ranking
from dlcore.retrieval._codes import WORD
from dlcore.retrieval._table import HashTable, probe_tables

TURN = 64
"""Queries that are ranked at once."""


class Judgement(NamedTuple):
    """How well codes retrieve, by query [q], and over all queries by radius [bits + 1]."""

    precision: np.ndarray
    """Of the first k, ties by index; a query without relevant items counts as 0."""
    average_precision: np.ndarray
    """Over the ranking of the whole database, ties by index; NaN for a query without relevant items."""
    radius_average_precision: np.ndarray
    """The same with all items of a distance counted together."""
    curve_precision: np.ndarray
    """Mean precision of the items within each radius over the queries that have any; NaN where none has."""
    curve_recall: np.ndarray


def judge(
    queries: Sequence[UInt32[np.ndarray, "q w"]],
    database: Sequence[UInt32[np.ndarray, "n w"]],
    query_labels: Int[np.ndarray, " _"],
    labels: Int[np.ndarray, " _"],
    bits: int,
    k: int,
) -> Judgement:
    """Rank the whole database for every query. Queries must not be rows of the database: nothing is left out.

    Raises `ValueError` for other numbers of tables, words or labels, and k beyond the database.
    """
    if len(queries) != len(database) or not queries:
        raise ValueError(f"judge: {len(queries)} tables of queries and {len(database)} of the database; pass as many")
    if np.shape(query_labels) != (len(queries[0]),) or np.shape(labels) != (len(database[0]),):
        raise ValueError(f"judge: {len(queries[0])} queries with labels {np.shape(query_labels)}, {len(database[0])} "
                         f"codes with labels {np.shape(labels)}; pass one each")  # fmt: skip
    if (words := {codes.shape[1:] for codes in (*queries, *database)}) != {(-(-bits // WORD),)}:
        raise ValueError(f"judge: {bits} bits take {-(-bits // WORD)} words, but codes have shapes [n, *{words}]")
    if not 1 <= k <= len(labels):
        raise ValueError(f"judge: k={k} of {len(labels)} codes; use 1 to {len(labels)}")
    given, stored = np.stack(queries), jnp.asarray(np.stack(database))
    parts = [
        _turn(given[:, i : i + TURN], stored, query_labels[i : i + TURN], labels, bits, k)
        for i in range(0, len(query_labels), TURN)
    ]
    precision, average, items, relevant = (np.concatenate(part) for part in zip(*parts, strict=True))
    by_radius = ranking.radius_average_precision(jnp.asarray(items), jnp.asarray(relevant))
    curves = ranking.precision_recall(jnp.asarray(items), jnp.asarray(relevant))
    return Judgement(precision, average, np.asarray(by_radius), *map(_mean, curves))


def _turn(queries: np.ndarray, database: Array, own: np.ndarray, labels: np.ndarray, bits: int, k: int) -> tuple:
    count = len(own)
    # A whole turn, so that one program serves all.
    queries = np.pad(queries, ((0, 0), (0, TURN - count), (0, 0)))
    distance = np.asarray(_distances(queries, database))
    relevant = labels == np.pad(own, (0, TURN - count))[:, None]
    order = np.argsort(distance, axis=1, kind="stable")
    measured = _measure(relevant, np.take_along_axis(relevant, order, 1), k)
    measured += ranking.radius_counts(distance, relevant, bits)
    return tuple(np.asarray(x)[:count] for x in measured)


@jax.jit
def _distances(queries: UInt32[Array, "t q w"], database: UInt32[Array, "t n w"]) -> Array:
    """Least over the tables, in the narrowest integers that hold it: they are sorted fastest."""
    narrow = jnp.uint8 if database.shape[-1] * 32 < 256 else jnp.uint16
    differing = jax.lax.population_count(queries[:, :, None] ^ database[:, None])
    return differing.astype(narrow).sum(-1, dtype=narrow).min(0)


@functools.partial(jax.jit, static_argnums=2)
def _measure(relevant: Array, ranked: Array, k: int) -> tuple[Array, Array]:
    average = ranking.average_precision(ranked, relevant.sum(-1, dtype=jnp.int32))
    return ranking.precision_at(ranked, k), average


def _mean(values: Array) -> np.ndarray:
    """Over the queries, of what is not NaN."""
    values = np.asarray(values, np.float64)
    counted = ~np.isnan(values)
    total = np.where(counted, values, 0).sum(0)
    return np.divide(total, counted.sum(0), out=np.full(len(total), np.nan), where=counted.any(0))


def summary(found: Judgement) -> dict[str, float]:
    """Means over the queries: precision, mAP with ties by index and by radius, and how many queries mAP left out."""
    counted = ~np.isnan(found.average_precision)
    mean = lambda values: float(values[counted].mean()) if counted.any() else float("nan")  # noqa: E731
    return {
        "precision": float(found.precision.mean()),
        "map": mean(found.average_precision),
        "map_radius": mean(found.radius_average_precision),
        "left_out": float((~counted).sum()),
    }


def look_up_cost(
    tables: Sequence[HashTable],
    queries: Sequence[UInt32[np.ndarray, "q w"]],
    query_labels: Int[np.ndarray, " q"],
    labels: Int[np.ndarray, " n"],
    radius: int,
) -> dict[str, float]:
    """Means over queries of looking up a ball in hash tables: addresses probed, rows found and precision among them
    (queries that find nothing count 0, and are counted). Raises `ValueError` unless all have one label each."""
    has_shape("look_up_cost", "query_labels", query_labels, queries[0].shape[:1], f"of queries {queries[0].shape}")
    has_shape("look_up_cost", "labels", labels, tables[0].rows.shape, f"of a table of {len(tables[0].rows)} rows")
    probes, found, right = [], [], []
    for i, label in enumerate(query_labels):
        one = probe_tables(tables, [codes[i] for codes in queries], radius)
        probes.append(one.probes)
        found.append(len(one.rows))
        right.append(float((labels[one.rows] == label).mean()) if len(one.rows) else 0.0)
    names = ("probes", "found", "precision", "empty")
    return dict(zip(names, map(float, map(np.mean, (probes, found, right, np.array(found) == 0))), strict=True))
