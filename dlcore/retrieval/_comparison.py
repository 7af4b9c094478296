"""Codes of several methods judged in the same way, as experiments compare them (lecture 20.2)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Num, UInt32

from dlcore.lookup import check_name
from dlcore.retrieval import _baselines as baselines
from dlcore.retrieval._codes import pack
from dlcore.retrieval._judge import judge, look_up_cost, summary
from dlcore.retrieval._pca import PCA, Array, keep
from dlcore.retrieval._table import build, occupancy
from dlcore.types import Key

Encoder = Callable[[Array], Array]
"""Rows of features [n, d] to packed codes [n, w]."""

TABLES = {"itq": 1, "pca_sign": 1, "lsh": 1, "lsh_8": 8}
"""Methods without a network, and their tables."""
LOOKED_UP = 1000
"""Queries at most whose look-ups are counted."""


def possible(bits: int, components: int) -> list[str]:
    """Methods without a network for so many bits: those of principal components need as many of them."""
    return [name for name in TABLES if "lsh" in name or bits <= components]


def encoders(name: str, fitted: PCA, sample: Num[Array, "n d"], bits: int, *, key: Key) -> list[Encoder]:
    """The encoder of each table of a method without a network: "itq", "pca_sign", "lsh" or "lsh_8".

    ITQ turns the principal components for the rows of `sample`, LSH takes only the mean of the fit. Raises `ValueError`
    for another name, and for more bits than components.
    """
    check_name("method", name, TABLES)
    if name == "itq":
        return [_linear(baselines.iterative_quantisation(keep(fitted, bits), sample, key=key))]
    if name == "pca_sign":
        return [_linear(baselines.principal_signs(keep(fitted, bits)))]
    keys = jax.random.split(key, TABLES[name])
    return [_linear(baselines.random_hyperplanes(jnp.asarray(fitted.mean), bits, key=one)) for one in keys]


def _linear(code: baselines.LinearCode) -> Encoder:
    return lambda rows: pack(baselines.encode(code, rows))


def measure(
    queries: Sequence[UInt32[np.ndarray, "q w"]],
    database: Sequence[UInt32[np.ndarray, "n w"]],
    query_labels: Int[np.ndarray, " q"],
    labels: Int[np.ndarray, " n"],
    *,
    bits: int,
    k: int,
    radius: int,
) -> dict[str, Any]:
    """What a method's codes find (`dlcore.retrieval.judge`), how they fill buckets, and the cost of looking up.

    Occupancy is of the first table; look-ups are those of the first queries, 1,000 at most.
    """
    found = judge(queries, database, query_labels, labels, bits, k)
    some = [codes[:LOOKED_UP] for codes in queries]
    cost = look_up_cost([build(codes, bits) for codes in database], some, query_labels[:LOOKED_UP], labels, radius)
    return {
        **summary(found),
        **occupancy(database[0]),
        **{f"look_up_{name}": value for name, value in cost.items()},
        "curve": {"precision": found.curve_precision, "recall": found.curve_recall},
    }


def numbers(found: Mapping[str, Mapping[str, Any]], k: int) -> dict[str, float]:
    """Metrics of `measure` by method: all of the one called "trained" by their own names, the main ones of the others
    with the method's name at the end."""
    told: dict[str, float] = {}
    for method, measured in found.items():
        for name in ("precision", "map", "map_radius", "entropy_bits"):
            end = "" if method == "trained" else f"_{method}"
            told[name.replace("precision", f"precision_at_{k}") + end] = float(measured[name])
    rest = {name: value for name, value in found["trained"].items() if np.ndim(value) == 0 and name != "precision"}
    return told | {name: float(value) for name, value in rest.items() if not isinstance(value, Mapping)}
