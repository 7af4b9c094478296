"""Probability tables against sums written out, hand examples and a conjugate posterior (lecture 2.1–2.10)."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from dlcore.stats.table import bayes, condition, independence_gap, is_independent, make_table, marginal, marginalize

AXES = ("sky", "wind", "season")


def joint(seed=0, shape=(2, 3, 4)):
    p = np.random.default_rng(seed).gamma(0.7, size=shape)
    return p / p.sum()


def make(p, axes=AXES):
    return make_table(jnp.asarray(p, jnp.float32), axes)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_marginals_are_sums_written_out(seed):
    p = joint(seed)
    table = make(p)
    both, one = marginalize(table, "season", "sky"), marginal(table, "season", "sky")
    assert both.axes == ("wind",) and one.axes == ("sky", "season")
    expected = np.zeros(3), np.zeros((2, 4))
    for i, j, k in itertools.product(range(2), range(3), range(4)):
        expected[0][j] += p[i, j, k]
        expected[1][i, k] += p[i, j, k]
    np.testing.assert_allclose(both.probabilities, expected[0], rtol=1e-5)
    np.testing.assert_allclose(one.probabilities, expected[1], rtol=1e-5)
    assert float(marginalize(table, *AXES).probabilities) == pytest.approx(1, abs=1e-6)


def test_conditional_times_marginal_is_the_joint():
    p = joint()
    table = make(p)
    for k in range(4):
        given = condition(table, season=k)
        assert given.axes == ("sky", "wind")
        np.testing.assert_allclose(given.probabilities * p[:, :, k].sum(), p[:, :, k], rtol=1e-5)
    two = condition(table, season=1, sky=0)
    np.testing.assert_allclose(two.probabilities, p[0, :, 1] / p[0, :, 1].sum(), rtol=1e-5)
    twice = condition(condition(table, season=1), sky=0)
    np.testing.assert_allclose(two.probabilities, twice.probabilities, rtol=1e-5)


def test_independence_of_a_product_and_of_a_pair_that_agrees():
    a, b = np.array([0.2, 0.8]), np.array([0.5, 0.1, 0.4])
    assert is_independent(make(np.outer(a, b), ("a", "b")))
    same = make(np.diag([0.5, 0.5]), ("a", "b"))
    assert float(independence_gap(same)) == pytest.approx(0.25) and not is_independent(same)
    # Pairwise independent, not mutually: c = a xor b.
    xor = np.zeros((2, 2, 2))
    for i, j in itertools.product(range(2), range(2)):
        xor[i, j, i ^ j] = 0.25
    table = make(xor)
    assert is_independent(marginalize(table, "season")) and not is_independent(table)
    assert float(independence_gap(table)) == pytest.approx(0.125)


def test_bayes_rule_by_hand():
    # A test that finds 99 % of the 1 % who are ill, with 5 % false alarms: p(ill|+) = 0.0099/0.0594 = 1/6.
    prior = make([0.01, 0.99], ("ill",))
    posterior, evidence = bayes(prior, jnp.asarray([0.99, 0.05]))
    assert float(evidence) == pytest.approx(0.0594) and float(posterior.probabilities[0]) == pytest.approx(1 / 6)
    # The joint, conditioned, says the same.
    seen = np.array([[0.99, 0.01], [0.05, 0.95]]) * np.array([[0.01], [0.99]])
    other = condition(make(seen, ("ill", "result")), result=0)
    np.testing.assert_allclose(posterior.probabilities, other.probabilities, rtol=1e-6)


def test_evidence_of_counts_is_beta_binomial():
    # A uniform prior over the k of a hypergeometric urn gives equal evidence for every count seen.
    n, drawn = 10, 4
    prior = make(np.full(n + 1, 1 / (n + 1)), ("red",))
    for seen in range(drawn + 1):
        likelihood = scipy.stats.hypergeom(n, np.arange(n + 1), drawn).pmf(seen)
        assert float(bayes(prior, jnp.asarray(likelihood, jnp.float32)).evidence) == pytest.approx(1 / 5, rel=1e-5)


@pytest.mark.parametrize(
    ("p", "message"),
    [([0.5, 0.6], "sum to 1, got 1.1"), ([-0.1, 1.1], "negative"), ([np.nan, 1.0], "finite")],
)
def test_what_is_no_distribution_is_refused(p, message):
    with pytest.raises(ValueError, match=message):
        make(p, ("a",))


def test_bad_names_values_and_shapes_are_refused():
    table = make([[0.5, 0.5], [0.0, 0.0]], ("a", "b"))
    cases = [
        (lambda: make(joint(), ("a", "b")), "names"),
        (lambda: make(joint(), ("a", "b", "a")), "names"),
        (lambda: marginalize(table, "c"), "no axis 'c'"),
        (lambda: marginal(table, "a", "a"), "twice"),
        (lambda: condition(table, c=0), "no axis 'c'"),
        (lambda: condition(table, a=2), "outside 0 … 1"),
        (lambda: condition(table, b=-1), "outside"),
        (lambda: condition(table, a=1), "cannot condition on a = 1"),
        (lambda: bayes(table, jnp.ones(2)), "likelihood has shape"),
        (lambda: bayes(table, -jnp.ones((2, 2))), "negative"),
        (lambda: bayes(table, jnp.asarray([[0.0, 0.0], [1.0, 1.0]])), "cannot condition"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
