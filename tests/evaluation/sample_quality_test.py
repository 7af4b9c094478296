"""Sample quality: closed forms for normal distributions, brute force for neighbours, planted failures."""

import numpy as np
import pytest
import scipy.linalg

from dlcore.evaluation import _sample_quality as q

RNG = np.random.default_rng(0)


def covariance(d, rank=None):
    root = RNG.normal(size=(d, rank or d))
    return root @ root.T


def test_frechet_distance_of_two_normals():
    m1, m2, c1, c2 = RNG.normal(size=4), RNG.normal(size=4), covariance(4), covariance(4)
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * scipy.linalg.sqrtm(c1 @ c2).real)
    assert q.frechet_distance(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-10)
    assert q.frechet_distance(m1, c1, m1, c1) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_axes_by_hand_even_when_singular():
    a, b = np.diag([4.0, 0.0]), np.diag([1.0, 9.0])
    assert q.frechet_distance(np.zeros(2), a, np.array([3.0, 0]), b) == pytest.approx(9 + (2 - 1) ** 2 + 3**2)


def test_frechet_distance_from_samples_approaches_that_of_the_distributions():
    c1, c2 = covariance(3), covariance(3)
    x, y = (RNG.multivariate_normal(np.zeros(3), c, 200_000) for c in (c1, c2))
    exact = q.frechet_distance(np.zeros(3), c1, np.zeros(3), c2)
    assert q.frechet_distance(*q.moments(x), *q.moments(y)) == pytest.approx(exact, rel=0.05)


def test_kernel_distance_is_the_double_loop():
    x, y = RNG.normal(size=(5, 3)), RNG.normal(size=(4, 3)) + 1
    k = lambda a, b: (a @ b / 3 + 1) ** 3  # noqa: E731
    xx = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    yy = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert q.kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy)


def test_kid_is_unbiased_and_sees_a_shift():
    x, y = RNG.normal(size=(2000, 8)), RNG.normal(size=(2000, 8))
    value, error = q.kid(x, y)
    assert abs(value) < 4 * error
    assert q.kid(x, y + 0.5)[0] > 10 * error


def test_covered_is_brute_force():
    points, manifold = RNG.normal(size=(30, 2)) * 1.5, RNG.normal(size=(20, 2))
    hits = 0
    for p in points:
        inside = False
        for m in manifold:
            radius = sorted(np.linalg.norm(m - other) for other in manifold)[3]
            inside |= np.linalg.norm(p - m) <= radius
        hits += inside
    assert q.covered(points, manifold) == pytest.approx(hits / 30)
    with pytest.raises(ValueError, match="neighbours=3"):
        q.covered(points, manifold[:3])


def test_collapse_lowers_recall_and_noise_lowers_precision():
    real, other = RNG.normal(size=(400, 4)), RNG.normal(size=(400, 4))
    collapsed = np.repeat(other[:5], 80, axis=0) + 1e-3 * RNG.normal(size=(400, 4))
    good, bad, wild = (q.quality(x, real, RNG.normal(size=(400, 4))) for x in (other, collapsed, 5 * other))
    assert good.precision > 0.8 and good.recall > 0.8 and good.frechet < 3 * good.frechet_floor
    assert bad.recall < 0.2 and bad.precision > 0.5 and wild.precision < 0.2
    assert min(bad.frechet, wild.frechet) > 10 * good.frechet


def test_covered_classes():
    labels = np.repeat(np.arange(4), 25)
    assert q.covered_classes(labels, labels, 4) == 4
    assert q.covered_classes(np.repeat([0, 1, 2], [60, 35, 5]), labels, 4) == 2


@pytest.mark.parametrize(("neighbours", "radius"), [(1, 1.0), (2, 2.0), (3, 4.0)])
def test_covered_reaches_to_the_kth_neighbour_and_no_further(neighbours, radius):
    """Points 0, 1, 2, 4, 8 on a line: those of the middle 0 are at 1, 2, 4 and 8 (k counts others, not itself)."""
    manifold = np.array([[0.0], [1.0], [2.0], [4.0], [8.0]])
    far = np.concatenate([manifold, np.full((5, 1), 1e6) + 1e5 * np.arange(5)[:, None]])
    assert q.covered(np.array([[-radius + 1e-6]]), far, neighbours) == 1
    assert q.covered(np.array([[-radius - 1e-6]]), manifold[:4] if neighbours < 3 else manifold, neighbours) == 0


def test_features_of_any_precision_are_computed_in_double():
    """NumPy would add up 2²⁰ rows of float32 one after the other, and take products of float16 in it."""
    single = np.full((2**20, 2), 0.1, np.float32)
    np.testing.assert_allclose(q.moments(single)[0], np.float64(np.float32(0.1)), rtol=1e-12)
    half = (100 * RNG.normal(size=(50, 3))).astype(np.float16)
    for function in (lambda x: q.kernel_distance(x, x[::-1] / 2), lambda x: q.covered(x, x[:9] + 1)):
        assert function(half) == pytest.approx(function(half.astype(float)), rel=1e-12)
    with pytest.raises(ValueError, match="at least 2"):
        q.kernel_distance(half[:1], half)
