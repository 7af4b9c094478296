"""Samples that repeat one another, or training examples, are flagged; real examples are not (lecture 27.2)."""

import numpy as np
import pytest
import scipy.stats
from sklearn.datasets import load_digits

from dlcore.evaluation import collapse

DIGITS = load_digits().images.astype(np.float32)[np.random.default_rng(3).permutation(1797), :, :, None] / 8 - 1
TRAIN, HELDOUT, FRESH = DIGITS[:900], DIGITS[900:1350], DIGITS[1350:1797]


def images(rng):
    return TRAIN, HELDOUT, FRESH


def points(rng):
    return tuple(rng.normal(size=(n, 2)) for n in (2000, 500, 500))


def numbers(rng):
    return tuple(rng.exponential(size=(n, 1)) for n in (1000, 400, 400))


def few_patterns(rng):
    """Data that repeat themselves: 16 binary patterns."""
    return tuple(rng.integers(2, size=(n, 2, 2, 1)).astype(np.float32) for n in (600, 300, 300))


def long(rng):
    return tuple(rng.normal(size=(n, 8, 8, 3)).astype(np.float32) for n in (400, 200, 200))


WORLDS = {function.__name__: function for function in (images, points, numbers, few_patterns, long)}


def problems(samples, train, heldout):
    near = collapse.duplicates(samples, heldout), collapse.copies(samples, train, heldout)
    report = collapse.Report(np.ones(1, int), np.ones(1), 1.0, duplicates=near[0], copies=near[1])
    return [line.split(":")[0] for line in report.problems()]


def examined(samples):
    rng = np.random.default_rng(1)
    train, heldout = (rng.normal(size=(n, 3)).astype(np.float32) for n in (500, 200))
    return collapse.examine(samples, train, np.arange(500) % 10, heldout, 10)


def test_few_samples_cannot_show_every_class_and_one_of_ten_is_missed_by_chance():
    fresh = np.random.default_rng(2).normal(size=(400, 3)).astype(np.float32)
    for count in (2, 3, 5, 10, 20, 400):
        assert examined(fresh[:count]).problems() == ()
    for hits, found in (([7] * 9 + [0], True), ([1] * 9 + [0], False), ([50] * 9 + [10], True), ([0] * 10, True)):
        report = collapse.Report(np.array(hits), np.full(10, 0.1), 1.0)
        assert bool(report.problems()) == found, hits
    for k, n, p in ((0, 64, 0.1), (3, 20, 0.3), (20, 20, 0.5), (0, 5, 1.0), (7, 1000, 0.01)):
        assert collapse.binomial_cdf(k, n, p) == pytest.approx(scipy.stats.binom.cdf(k, n, p), rel=1e-9)


def test_samples_that_are_not_finite_are_a_finding_and_left_out():
    fresh = np.random.default_rng(2).normal(size=(100, 3)).astype(np.float32)
    broken = fresh.copy()
    broken[[3, 8], [0, 1]] = np.nan, np.inf
    report, rest = examined(broken), examined(np.delete(fresh, [3, 8], axis=0))
    assert report.problems() == ("diverged: 2 samples are not finite",) and report.diversity == rest.diversity
    np.testing.assert_array_equal(report.histogram, rest.histogram)
    assert "100 samples are not finite" in examined(np.full_like(fresh, np.nan)).problems()[0]
    with pytest.raises(ValueError, match="examine: 0 samples"):
        examined(fresh[:0])


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", range(4))
def test_real_examples_that_were_held_out_are_no_repetitions(world, seed):
    rng = np.random.default_rng(seed)
    train, heldout, fresh = WORLDS[world](rng)
    assert problems(fresh, train, heldout) == []
    assert problems(fresh[rng.permutation(len(fresh))[:40]], train, heldout) == []


@pytest.mark.parametrize("world", [name for name in WORLDS if name != "few_patterns"])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_planted_repetitions_are_flagged(world, noise):
    rng = np.random.default_rng(0)
    train, heldout, fresh = WORLDS[world](rng)
    spread = noise * np.median(collapse.nearest(heldout)[1]) / np.sqrt(fresh[0].size)

    def shaken(x):
        return x + spread * rng.normal(size=x.shape)

    one = fresh.copy()
    one[: int(0.45 * len(one))] = one[-1]
    assert "collapse" in problems(shaken(one), train, heldout)
    tenth = fresh.copy()
    tenth[: len(tenth) // 5] = np.repeat(tenth[-len(tenth) // 20 :], 4, axis=0)[: len(tenth) // 5]
    if world in ("images", "long"):  # Where chance neighbours are rare, a fifth is seen.
        assert problems(shaken(tenth), train, heldout) == ["collapse"]
    verbatim = train[rng.permutation(len(train))[: len(fresh)]]
    assert problems(shaken(verbatim), train, heldout) == ["copies"]
    half = np.concatenate([verbatim[: len(fresh) // 2], fresh[len(fresh) // 2 :]])
    assert problems(shaken(half), train, heldout) == ["copies"]
    assert problems(shaken(np.repeat(train[:1], len(fresh), 0)), train, heldout) == ["collapse", "copies"]


def test_blurred_samples_are_neither():
    """A mean of neighbours is closer to training images than a new image is, but repeats none."""
    order = collapse.nearest(FRESH, HELDOUT)[0]
    assert problems(0.5 * (FRESH + HELDOUT[order]), TRAIN, HELDOUT) == []


def test_nearest_is_brute_force_in_blocks_of_any_size():
    rng = np.random.default_rng(0)
    x, others = rng.normal(size=(13, 2, 3)), rng.normal(size=(9, 2, 3))
    table = np.sqrt(((x[:, None] - others) ** 2).sum((2, 3)))
    own = np.sqrt(((x[:, None] - x) ** 2).sum((2, 3))) + np.diag(np.full(13, np.inf))
    for block in (1, 4, 13, 50):
        for found, expected in (
            (collapse.nearest(x, others, block=block), table),
            (collapse.nearest(x, block=block), own),
        ):
            np.testing.assert_array_equal(found[0], expected.argmin(1))
            np.testing.assert_allclose(found[1], expected.min(1), rtol=1e-9)


def test_shares_count_what_is_next_to_another():
    line = np.arange(10.0)[:, None]
    twice = np.concatenate([line[:5], line[:3], line[:1], line[:1]])
    assert collapse.duplicates(twice, line) == collapse.Near(0.8, 0.0, 10)
    assert collapse.duplicates(line, twice) == collapse.Near(0.0, 0.8, 10)
    assert collapse.copies(line[:4] + 0.05, line, line + 0.5) == collapse.Near(1.0, 0.0, 4)
    assert not collapse.Near(0.05, 0.0, 10**9).repeats() and collapse.Near(0.051, 0.0, 10**9).repeats()
    assert not collapse.Near(0.3, 0.0, 10).repeats() and collapse.Near(0.3, 0.0, 100).repeats()
