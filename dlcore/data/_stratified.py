"""Rows drawn so that every class keeps its share."""

import numpy as np


def stratified(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (rest, chosen): `count` rows drawn so that classes keep their proportions, both in order.

    A pure function of labels, count and seed: the rows are those of scikit-learn's `train_test_split`, whose import
    would cost every command a second. Where a class has one row only, or there are more classes than rows in a part,
    rows are drawn without regard to classes, except that every class keeps one in `rest` if that can be.
    """
    rows = np.arange(len(labels))
    if count == 0:
        return rows, rows[:0]
    _, first, classes, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    if counts.min() >= 2 and len(counts) <= min(count, len(labels) - count):
        chosen = _by_class(classes, counts, count, np.random.RandomState(seed))
    else:
        free = np.delete(rows, first) if count <= len(rows) - len(first) else rows
        chosen = np.sort(np.random.default_rng(seed).choice(free, count, replace=False))
    return np.delete(rows, chosen), chosen


def _by_class(classes: np.ndarray, counts: np.ndarray, count: int, rng: np.random.RandomState) -> np.ndarray:
    """`count` rows in order: of each class its quota, at random."""
    rests = _quotas(counts, len(classes) - count, rng)
    quotas = _quotas(counts - rests, count, rng)
    chosen = []
    for index, (rest, quota) in enumerate(zip(rests, quotas, strict=True)):
        members = rng.permutation(np.flatnonzero(classes == index))
        chosen.append(members[rest : rest + quota])
    return np.sort(np.concatenate(chosen))


def _quotas(counts: np.ndarray, draws: int, rng: np.random.RandomState) -> np.ndarray:
    """How many of `draws` fall on each class: its share rounded down, then one more by largest remainder and by lot."""
    exact = counts / counts.sum() * draws
    quotas = np.floor(exact).astype(int)
    remainders = exact - quotas
    for remainder in np.unique(remainders)[::-1]:
        missing = draws - quotas.sum()
        if missing <= 0:
            break
        tied = np.flatnonzero(remainders == remainder)
        quotas[rng.choice(tied, min(len(tied), missing), replace=False)] += 1
    return quotas
