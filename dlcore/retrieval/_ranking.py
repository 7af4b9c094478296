"""How good a ranking is (lecture 20.2): precision, average precision by index and by radius, precision and recall.

Relevance is a bool [queries, k]: whether the item at each rank, nearest first, is one of the query's. Items at equal
distance are ordered by index, which no user of a set of codes can know to be good or bad: the radius-aware average
precision counts them together instead.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from dlcore.operands import equal_shapes, has_shape
from dlcore.types import Mean


def precision_at(relevant: Bool[Array, "q k"], k: int) -> Float[Array, " q"]:
    """Fraction of the first k items that are relevant, by query, also of one without relevant items: there 0.

    Raises `ValueError` for a k beyond the ranking: what was not found cannot be judged.
    """
    _check_rank("precision_at", relevant, k)
    return relevant[:, :k].astype(jnp.float32).mean(-1)


def average_precision(
    relevant: Bool[Array, "q k"], total: Int[Array, " q"], k: int | None = None
) -> Float[Array, " q"]:
    """AP@k = Σ_{i ≤ k} rel_i · P@i / min(R, k) by query, R = `total` relevant items in the whole database.

    It is 1 for the best ranking of k items there can be, and 0 if none of the k is relevant. NaN for a query with
    R = 0: `mean_average_precision` leaves it out. Raises `ValueError` for a k beyond the ranking, and unless there is
    one total per query.

    >>> round(float(average_precision(jnp.array([[1, 0, 1, 0]], bool), jnp.array([3]), 4)[0]), 6)
    0.555556
    """
    k = relevant.shape[-1] if k is None else k
    _check_rank("average_precision", relevant, k)
    has_shape("average_precision", "total", total, relevant.shape[:-1], f"one number per query of {relevant.shape}")
    hits = relevant[:, :k]
    precision = jnp.cumsum(hits, -1, dtype=jnp.int32) / jnp.arange(1, k + 1)
    return _over((hits * precision).sum(-1), jnp.minimum(total, k))


class RankingMean(NamedTuple):
    """A mean over queries that have relevant items, and how many have none."""

    mean: Mean
    left_out: Int[Array, ""]


def mean_average_precision(average: Float[Array, " q"], total: Int[Array, " q"]) -> RankingMean:
    """The mean of average precisions over the queries with a relevant item in the database; the others are counted.

    Queries whose relevant items were not found count, with 0. Raises `ValueError` for different shapes.
    """
    equal_shapes("mean_average_precision", average=average, total=total)
    return RankingMean(Mean.of(average, total > 0), (total == 0).sum(dtype=jnp.int32))


def radius_counts(
    distance: Integer[Array | np.ndarray, "q n"], relevant: Bool[Array | np.ndarray, "..."], bits: int
) -> tuple[Int[Array, "q r"], Int[Array, "q r"]]:
    """(items, relevant items) at distance 0, 1, …, `bits` of every query, over the whole database, in any order.

    Counted on the host, which is many times faster than a compiled histogram. Raises `ValueError` for different shapes,
    and distances beyond `bits`.
    """
    equal_shapes("radius_counts", distance=distance, relevant=relevant)
    distance, relevant = np.asarray(distance), np.asarray(relevant)
    if distance.size and not 0 <= distance.min() <= distance.max() <= bits:
        raise ValueError(f"radius_counts: distances are {distance.min()} to {distance.max()}, codes have {bits} bits")
    count, bins = len(distance), bits + 1
    places = (distance + bins * np.arange(count)[:, None]).reshape(-1)
    items, found = (np.bincount(x, minlength=count * bins) for x in (places, places[relevant.reshape(-1)]))
    return jnp.asarray(items.reshape(count, bins), jnp.int32), jnp.asarray(found.reshape(count, bins), jnp.int32)


def radius_average_precision(items: Int[Array, "q r"], relevant: Int[Array, "q r"]) -> Float[Array, " q"]:
    """Σ_r (relevant at r) · P(≤ r) / R by query, from `radius_counts`: P(≤ r) is the precision of all items within r.

    Every item at the same distance counts as found at once, so that the order of ties has no part in it (He, Cakir,
    Bargal & Sclaroff 2018). NaN for a query without relevant items.
    """
    equal_shapes("radius_average_precision", items=items, relevant=relevant)
    precision, _ = precision_recall(items, relevant)
    hits = relevant.astype(jnp.float32)
    return _over((hits * jnp.where(relevant > 0, precision, 0)).sum(-1), relevant.sum(-1))


def precision_recall(
    items: Int[Array, "q r"], relevant: Int[Array, "q r"]
) -> tuple[Float[Array, "q r"], Float[Array, "q r"]]:
    """(precision, recall) of all items within distance 0, 1, …, from `radius_counts`.

    A precision is NaN where there is no item yet, a recall where a query has no relevant item. Raises `ValueError` for
    different shapes.
    """
    equal_shapes("precision_recall", items=items, relevant=relevant)
    within, found = jnp.cumsum(items, -1), jnp.cumsum(relevant, -1)
    return _over(found, within), _over(found, found[..., -1:])


def _over(part: Array, whole: Array) -> Array:
    """part / whole, NaN where the whole is 0."""
    whole = jnp.broadcast_to(whole, part.shape)
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), jnp.nan).astype(jnp.float32)


def _check_rank(function: str, relevant: Array, k: int) -> None:
    if not 1 <= k <= relevant.shape[-1]:
        raise ValueError(f"{function}: k={k}, but rankings have {relevant.shape[-1]} items; rank more, or lower k")
