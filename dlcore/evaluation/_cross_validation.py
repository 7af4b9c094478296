"""Splits by seed, k-fold cross-validation with all trainings at once, and choice of a setting by it (lecture 1.7–1.8).

Folds differ in size by at most one row. So that they can be stacked and trained under one `vmap`, the shorter ones
are padded with a row that `batch["where"]` leaves out: a fit has to weigh rows by it, as dlcore's losses do.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.types import Batch, Key, Mean

Fit = Callable[..., Any]
"""`(batch, key) -> params`, or `(batch, setting, key) -> params`; `batch["where"]` [n] marks the rows that count."""

Score = Callable[[Any, Batch], Mean]
"""`(params, batch) -> Mean` over the rows that `batch["where"]` marks, for example a loss on held-out rows."""


def split_rows(size: int, fractions: Sequence[float] = (0.8, 0.1, 0.1), *, seed: int = 0) -> list[np.ndarray]:
    """Row numbers 0 … size − 1 shuffled by the seed and cut in proportion to `fractions`, each part in order.

    Raises `ValueError` for fractions that are not positive with sum 1, or that leave a part without a row.
    """
    if min(fractions, default=0) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions must be positive and sum to 1, got {tuple(fractions)}")
    ends = np.round(np.cumsum(fractions) * size).astype(int)
    parts = np.split(_shuffled(size, seed), ends[:-1])
    if min(map(len, parts)) == 0:
        raise ValueError(f"{size} rows do not give each of the fractions {tuple(fractions)} a row")
    return [np.sort(part) for part in parts]


def folds(size: int, k: int, *, seed: int = 0) -> list[np.ndarray]:
    """k disjoint sets of row numbers that cover 0 … size − 1, shuffled by the seed; sizes differ by at most 1.

    Raises `ValueError` unless 2 ≤ k ≤ size.
    """
    if not 2 <= k <= size:
        raise ValueError(f"k={k} folds of {size} rows; k must be 2 to the number of rows")
    return [np.sort(part) for part in np.array_split(_shuffled(size, seed), k)]


def _shuffled(size: int, seed: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox([seed, 1])).permutation(size).astype(np.int32)


class FoldScores(NamedTuple):
    """Scores on the k folds, each by the params that did not see it; leading axes are settings, if there are any."""

    total: Float[Array, "*s k"]
    count: Float[Array, "*s k"]

    def each(self) -> Float[Array, "*s k"]:
        """The mean score of every fold."""
        return self.total / self.count

    def mean(self) -> Float[Array, "*s"]:
        """The mean over all rows, every row held out once."""
        return self.total.sum(-1) / self.count.sum(-1)

    def stderr(self) -> Float[Array, "*s"]:
        """Spread of the fold means over √k: a rough standard error, as the k trainings share data."""
        each = self.each()
        variance = each.var(-1, ddof=1) / each.shape[-1]
        # A derivative where all folds score alike too, 0.
        return jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), variance)


def cross_validate(fit: Fit, score: Score, data: Batch, k: int, *, seed: int = 0, at_once: bool = True) -> FoldScores:
    """Score every fold by params fitted to the others (Stone 1974).

    `data` are arrays with a common leading axis. The k trainings run under one `vmap`, or one after the other in one
    program with `at_once=False`, which needs 1/k of the memory; either is compiled once for a `fit` and a `score`.
    The key of a training is the seed's with the fold's number folded in. Raises `ValueError` unless 2 ≤ k ≤ rows, and
    when arrays differ in length.
    """
    return _scores(fit, score, data, None, k, seed, at_once)


class Choice(NamedTuple):
    """The setting with the best score, its number, and the scores [settings, k] of all."""

    setting: Any
    index: int
    scores: FoldScores


def choose(
    fit: Fit,
    score: Score,
    data: Batch,
    settings: Any,
    k: int,
    *,
    mode: str = "min",
    seed: int = 0,
    at_once: bool = True,
) -> Choice:
    """Choose a hyperparameter by k-fold cross-validation (lecture 1.8).

    `settings` is an array, or a tree of arrays, whose leading axis numbers the candidates; all candidates and
    folds train at once and see the same folds and keys. A candidate with a score that is not finite loses.
    Raises `ValueError` when that is true of all, for settings of different lengths, and for a `mode` other than "min"
    and "max".
    """
    if mode not in ("min", "max"):
        raise ValueError(f"mode must be min or max, got {mode!r}")
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(settings)}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(f"choose: settings must be arrays with a common leading axis, got lengths {sorted(sizes)}")
    scores = _scores(fit, score, data, settings, k, seed, at_once)
    means = np.asarray(scores.mean(), np.float64) * (1 if mode == "min" else -1)
    if not np.isfinite(means).any():
        raise ValueError("choose: no candidate has a finite score; check the data, or the range of the settings")
    index = int(np.argmin(np.where(np.isfinite(means), means, np.inf)))
    return Choice(jax.tree.map(lambda leaf: leaf[index], settings), index, scores)


def _scores(fit: Fit, score: Score, data: Batch, settings: Any, k: int, seed: int, at_once: bool) -> FoldScores:
    held = folds(_rows(data), k, seed=seed)
    kept = [np.setdiff1d(np.concatenate(held), part) for part in held]
    data = {name: jnp.asarray(values) for name, values in data.items()}
    mean = _program(data, _padded(kept), _padded(held), jax.random.key(seed), settings, fit, score, at_once)
    return FoldScores(mean.total, mean.count)


@functools.partial(jax.jit, static_argnums=(5, 6, 7))
def _program(data: Batch, kept: Any, held: Any, key: Key, settings: Any, fit: Fit, score: Score, at_once: bool) -> Mean:
    """The sums of the scores, [k] or [settings, k]; rows and marks of the folds are [k, longest]."""

    def fold(setting: Any, kept: Any, held: Any, i: Array) -> Mean:
        known = () if setting is None else (setting,)
        params = fit(_gather(data, *kept), *known, jax.random.fold_in(key, i))
        mean = score(params, _gather(data, *held))
        if jnp.shape(mean.total) or jnp.shape(mean.count):
            raise ValueError(f"score must give one Mean, got total and count of shapes {jax.tree.map(jnp.shape, mean)}")
        return mean

    def all_folds(setting: Any) -> Mean:
        numbers = jnp.arange(len(held[0]))
        if at_once:
            return jax.vmap(fold, in_axes=(None, 0, 0, 0))(setting, kept, held, numbers)
        return jax.lax.map(lambda rows: fold(setting, *rows), (kept, held, numbers))

    if settings is None:
        return all_folds(None)
    return jax.vmap(all_folds)(settings) if at_once else jax.lax.map(all_folds, settings)


def _rows(data: Batch) -> int:
    sizes = {name: len(values) for name, values in data.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"data must be arrays with a common leading axis, got lengths {sizes}")
    return next(iter(sizes.values()))


def _padded(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers and marks [k, longest]; what pads is the part's first row, marked False."""
    longest = max(map(len, parts))
    rows = np.stack([np.concatenate([part, np.full(longest - len(part), part[0])]) for part in parts])
    return rows, np.arange(longest) < np.array([len(part) for part in parts])[:, None]


def _gather(data: Batch, rows: Array, where: Array) -> Batch:
    return {**{name: values[rows] for name, values in data.items()}, "where": where}
