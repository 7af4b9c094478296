"""Rankings by hand, against scikit-learn and against loops (lecture 20.2)."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from dlcore.retrieval import _ranking as ranking


def flags(*rows):
    return jnp.array(rows, bool)


def test_ties_by_index_and_by_radius():
    for relevant, by_index in (((1, 0, 0, 1), 0.75), ((0, 0, 1, 1), 0.416667)):
        found = flags(relevant)
        assert float(ranking.average_precision(found, jnp.array([2]))[0]) == pytest.approx(by_index, abs=1e-6)
        counts = ranking.radius_counts(jnp.zeros((1, 4), jnp.int32), found, 2)
        assert float(ranking.radius_average_precision(*counts)[0]) == pytest.approx(0.5)
    distance, found = jnp.array([[0, 0, 1, 1, 1]]), flags((0, 1, 1, 0, 1))
    assert float(ranking.average_precision(found, jnp.array([3]))[0]) == pytest.approx(0.588889, abs=1e-6)
    counts = ranking.radius_counts(distance, found, 3)
    assert float(ranking.radius_average_precision(*counts)[0]) == pytest.approx(0.566667, abs=1e-6)


def test_the_best_there_can_be_within_k_is_one_and_nothing_found_counts():
    found, total = flags((1, 0, 1, 0), (0, 0, 0, 0), (0, 0, 0, 0)), jnp.array([3, 3, 0])
    average = ranking.average_precision(found, total, 4)
    np.testing.assert_allclose(average, [0.555556, 0, np.nan], atol=1e-6)
    mean = ranking.mean_average_precision(average, total)
    assert float(mean.mean.value()) == pytest.approx(0.277778, abs=1e-6) and int(mean.left_out) == 1
    assert float(ranking.average_precision(flags((1, 0, 0)), jnp.array([2]))[0]) == 0.5
    assert float(ranking.average_precision(flags((1, 1, 0)), jnp.array([9]), 2)[0]) == 1


def test_precision_counts_a_query_without_relevant_items():
    found = ranking.precision_at(flags((1, 0, 1, 0), (0, 0, 0, 0)), 3)
    np.testing.assert_allclose(found, [2 / 3, 0], rtol=1e-6)


def test_the_average_by_radius_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    distance, relevant = rng.integers(0, 9, (20, 50)), rng.random((20, 50)) < 0.3
    counts = ranking.radius_counts(jnp.asarray(distance, jnp.uint8), jnp.asarray(relevant), 8)
    expected = [average_precision_score(y, -d) for y, d in zip(relevant, distance, strict=True)]
    np.testing.assert_allclose(ranking.radius_average_precision(*counts), expected, rtol=1e-5)
    precision, recall = ranking.precision_recall(*counts)
    inside = distance[3] <= 4
    assert float(precision[3, 4]) == pytest.approx(relevant[3][inside].mean())
    assert float(recall[3, 4]) == pytest.approx(relevant[3][inside].sum() / relevant[3].sum())


def test_without_ties_both_averages_agree():
    rng = np.random.default_rng(1)
    relevant = rng.random((5, 8)) < 0.5
    total = jnp.asarray(relevant.sum(-1), jnp.int32)
    places = jnp.broadcast_to(jnp.arange(8), (5, 8))
    by_radius = ranking.radius_average_precision(*ranking.radius_counts(places, jnp.asarray(relevant), 8))
    np.testing.assert_allclose(ranking.average_precision(jnp.asarray(relevant), total), by_radius, rtol=1e-6)


def test_a_query_without_relevant_items_has_no_average():
    counts = ranking.radius_counts(jnp.zeros((1, 3), jnp.int32), flags((0, 0, 0)), 1)
    assert np.isnan(ranking.radius_average_precision(*counts)).all()


def test_a_rank_beyond_the_ranking_is_refused():
    for judge in (ranking.precision_at, lambda found, k: ranking.average_precision(found, jnp.array([1]), k)):
        with pytest.raises(ValueError, match="k=4, but rankings have 3 items"):
            judge(flags((1, 0, 0)), 4)
    with pytest.raises(ValueError, match="distances are 0 to 3, codes have 2 bits"):
        ranking.radius_counts(jnp.array([[0, 3]]), jnp.zeros((1, 2), bool), 2)
    with pytest.raises(ValueError, match="shapes must be equal"):
        ranking.radius_counts(jnp.zeros((1, 3), jnp.int32), jnp.zeros((1, 1), bool), 1)
