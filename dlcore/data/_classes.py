"""Some classes of a data set, as a data set of its own (lecture 18)."""

from collections.abc import Sequence

import numpy as np

from dlcore.data._checks import DataError
from dlcore.data._source import Data, Split, in_memory


def only_classes(data: Data, classes: Sequence[int]) -> Data:
    """The examples of these classes, numbered anew from 0 in their order, in all three splits.

    Channel statistics stay those of the whole training split. Raises `DataError` for data without labels, a class that
    there is not or that is named twice, and a split in which nothing is left.
    """
    spec = data.spec
    if not spec.classes or len(set(classes)) < len(classes) or not set(classes) <= set(range(spec.classes)):
        raise DataError(f"{spec.name}: classes {list(classes)} must be different ones of 0 … {(spec.classes or 0) - 1}")
    parts = [_only(spec.name, split, classes) for split in data[1:]]
    names, sizes = tuple(spec.class_names[k] for k in classes), tuple(split.size for split in parts)
    return Data(spec._replace(classes=len(classes), class_names=names, sizes=sizes), *parts)


def _only(name: str, split: Split, classes: Sequence[int]) -> Split:
    rows = split.all()
    kept = np.flatnonzero(np.isin(rows["label"], classes))
    if not len(kept):
        raise DataError(f"{name}: a split has no example of classes {list(classes)}; choose others")
    number = np.full(max(rows["label"].max(initial=0), *classes) + 1, -1, np.int32)
    number[list(classes)] = np.arange(len(classes))
    return in_memory({**{k: v[kept] for k, v in rows.items()}, "label": number[rows["label"][kept]]})


def few_rows(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Row numbers of `per_class` examples of every class, drawn without replacement: a function of the seed.

    The first n of a class are those that n would draw, so that larger sets hold smaller ones. Raises `ValueError` for a
    class that has fewer.
    """
    chosen = []
    for k in np.unique(labels):
        own = np.flatnonzero(labels == k)
        if not 1 <= per_class <= len(own):
            raise ValueError(f"few_rows: {per_class} examples of class {k}, which has {len(own)}; use 1 to {len(own)}")
        chosen.append(np.random.default_rng([seed, int(k)]).permutation(own)[:per_class])
    return np.concatenate(chosen)
