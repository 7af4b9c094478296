"""Codes judged, against a plain loop over queries (lecture 20.2)."""

import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.retrieval import _judge as judge
from dlcore.retrieval import _table as table
from dlcore.retrieval import pack


def drawn(n, bits, seed):
    code = np.random.default_rng(seed).integers(0, 2, (n, bits)).astype(bool)
    return code, np.asarray(pack(jnp.asarray(code)))


def loop(queries, database, query_labels, labels, k):
    """Precision, AP by index, AP by radius, and mean precision and recall by radius, one query after the other."""
    rows, curves = [], []
    for i, label in enumerate(query_labels):
        distance = np.min([(q[i] != d).sum(1) for q, d in zip(queries, database, strict=True)], 0)
        order = sorted(range(len(labels)), key=lambda j: (distance[j], j))
        right = labels[order] == label
        at = [right[: j + 1].mean() for j in range(len(right)) if right[j]]
        within = [(labels == label)[distance <= r] for r in range(4)]
        radius = sum(((labels == label) & (distance == r)).sum() * w.mean() for r, w in enumerate(within) if w.size)
        rows.append((right[:k].mean(), np.mean(at) if at else np.nan, radius / len(at) if at else np.nan))
        curves.append(
            [(w.mean() if w.size else np.nan, w.sum() / right.sum() if right.any() else np.nan) for w in within]
        )
    return np.array(rows).T, np.nanmean(curves, 0).T


@pytest.mark.parametrize("tables", [1, 3])
def test_every_number_is_that_of_a_loop(tables, monkeypatch):
    monkeypatch.setattr(judge, "TURN", 4)
    rng = np.random.default_rng(0)
    query_labels, labels = rng.integers(0, 4, 9).astype(np.int32), rng.integers(0, 3, 20).astype(np.int32)
    assert 3 in query_labels
    code, packed = zip(*(drawn(29, 3, seed) for seed in range(tables)), strict=True)
    found = judge.judge([x[:9] for x in packed], [x[9:] for x in packed], query_labels, labels, 3, 5)
    rows, curves = loop([x[:9] for x in code], [x[9:] for x in code], query_labels, labels, 5)
    np.testing.assert_allclose(found[:3], rows, rtol=1e-5)
    np.testing.assert_allclose(found[3:], curves, rtol=1e-5)
    numbers = judge.summary(found)
    assert numbers["left_out"] == (query_labels == 3).sum()
    assert numbers["map"] == pytest.approx(np.nanmean(rows[1]), rel=1e-5)
    assert numbers["precision"] == pytest.approx(rows[0].mean(), rel=1e-5)


def test_the_cost_of_looking_up_by_hand():
    codes, queries = np.array([[0], [1], [3]], np.uint32), np.array([[0], [4]], np.uint32)
    labels, own = np.array([0, 1, 1], np.int32), np.array([0, 1], np.int32)
    found = judge.look_up_cost([table.build(codes, 3)], [queries], own, labels, 1)
    assert found == {"probes": 4, "found": 1.5, "precision": 0.25, "empty": 0}
    assert judge.look_up_cost([table.build(codes, 3)], [queries], own, labels, 0)["empty"] == 0.5


def test_what_does_not_fit_is_refused():
    codes, labels = np.zeros((3, 1), np.uint32), np.zeros(3, np.int32)
    for call, message in (
        (lambda: judge.judge([codes], [], labels, labels, 2, 1), "1 tables of queries and 0"),
        (lambda: judge.judge([codes], [codes], labels[:2], labels, 2, 1), r"3 queries with labels \(2,\)"),
        (lambda: judge.judge([codes], [codes], labels, labels, 2, 4), "k=4 of 3 codes"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
