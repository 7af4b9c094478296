"""Principal components of data that do not fit in memory (lecture 20.1): moments of batches, merged exactly.

Count, mean and scatter matrix Σ (x − μ)(x − μ)ᵀ of two parts give those of the whole (Chan, Golub & LeVeque 1983), so
that the components of n rows are known after one pass over batches of any sizes, in any order, from d² numbers of
memory. Everything is float64 on the host: nothing is lost to truncation, unlike in an incremental decomposition that
keeps k directions per batch (Ross et al. 2008, scikit-learn's `IncrementalPCA`).
"""

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from dlcore.retrieval._pca import PCA, check_fit, signed


class Moments(NamedTuple):
    """What adds up to principal components: rows counted, their mean [d], their scatter matrix [d, d]."""

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]


def moments(x: Num[np.ndarray, "..."]) -> Moments:
    """Moments of a batch of rows [n, d], centred before they are multiplied. Raises `ValueError` for another rank.

    >>> moments(np.array([[1.0, 0.0], [3.0, 0.0]])).scatter.tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    if x.ndim != 2:
        raise ValueError(f"moments: expected rows of features [n, d], got {x.shape}; flatten images first")
    x = np.asarray(x, np.float64)
    if not len(x):
        return Moments(0, np.zeros(x.shape[1]), np.zeros((x.shape[1],) * 2))
    # Twice: what the rounded mean leaves is a mean again.
    mean = x.mean(0)
    centred = x - mean
    rest = centred.mean(0)
    scatter = centred.T @ centred - len(x) * np.outer(rest, rest)
    return Moments(len(x), mean + rest, scatter)


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of the rows of both: scatter S_a + S_b + δδᵀ n_a n_b / n with δ = μ_b − μ_a.

    Raises `ValueError` for different numbers of features.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"merge: {len(a.mean)} features and {len(b.mean)}; batches must have the same columns")
    if not a.count or not b.count:
        return a if a.count else b
    count, delta = a.count + b.count, b.mean - a.mean
    scatter = a.scatter + b.scatter + np.outer(delta, delta) * (a.count * b.count / count)
    return Moments(count, a.mean + delta * (b.count / count), scatter)


def fit_moments(found: Moments, n_components: int) -> PCA:
    """Components from the eigenvectors of the covariance; float64 NumPy arrays.

    Variances below d · 2.2e-16 of the largest count as 0. Raises `ValueError` as `dlcore.retrieval.fit_svd`.
    """
    shape = (found.count, len(found.mean))
    check_fit("fit_moments", shape, n_components)
    values, vectors = np.linalg.eigh(found.scatter)
    values, vectors = values[::-1][: min(shape)], vectors.T[::-1][:n_components]
    values = np.where(values > len(found.mean) * np.finfo(np.float64).eps * values[0], values, 0)
    kept, left = values[:n_components] / (found.count - 1), values[n_components:] / (found.count - 1)
    total = np.trace(found.scatter) / (found.count - 1)
    ratio = kept / total if total > 0 else np.zeros_like(kept)
    singular = np.sqrt(values[:n_components])
    noise = np.float64(left.mean() if len(left) else 0)
    return PCA(signed(vectors), kept, ratio, singular, found.mean, np.asarray(noise))


def fit_incremental(batches: Iterable[Num[np.ndarray, "_ d"]], n_components: int) -> PCA:
    """Components of all rows of batches of any sizes, in one pass: the same as of the rows together.

    Memory is O(d²) beside a batch; for d above some 20,000 use `dlcore.retrieval.fit_randomized`. Raises
    `ValueError` for no batch, and as `fit_moments`.
    """
    parts = map(moments, batches)
    first = next(iter(parts), None)
    if first is None:
        raise ValueError("fit_incremental: there is no batch; an iterator may have been used up")
    return fit_moments(functools.reduce(merge, parts, first), n_components)
