"""Estimators against their closed-form bias, variance and tail; the bootstrap against theory (lecture 3.1–3.5)."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dlcore.stats import bootstrap, consistency, estimator_study, repeat

STD, REPEATS = 1.5, 4000


def normals(key, m):
    return STD * jax.random.normal(key, (m,))


def variances(x):
    """By 1/m and by 1/(m − 1)."""
    return jnp.stack([x.var(), x.var(ddof=1)])


def mean(x):
    return x.mean(0)


def correlation(x):
    a, b = (x - x.mean(0)).T
    return (a * b).sum() / jnp.sqrt((a * a).sum() * (b * b).sum())


@pytest.fixture(scope="module")
def study():
    with jax.enable_x64(True):
        return estimator_study(jax.random.key(0), normals, variances, STD**2, 5, REPEATS)


def test_mse_is_squared_bias_plus_variance(study):
    np.testing.assert_allclose(study.mse, study.bias**2 + study.variance, rtol=1e-12)


def test_variance_by_m_is_biased_and_by_m_minus_one_is_not(study):
    expected = np.array([-(STD**2) / 5, 0])
    assert (np.abs(study.bias - expected) < 4 * study.standard_error).all()
    assert abs(float(study.bias[0])) > 10 * float(study.standard_error[0])
    # Var[s²] = 2σ⁴/(m − 1); dividing by m shrinks it by ((m − 1)/m)². The biased one has the smaller error.
    by_theory = 2 * STD**4 / 4 * np.array([(4 / 5) ** 2, 1])
    np.testing.assert_allclose(study.variance, by_theory, rtol=0.15)
    assert study.mse[0] < study.mse[1]


def test_the_mean_is_consistent_at_the_rate_of_its_distribution():
    sizes, epsilon = (4, 16, 64), 0.4
    found = np.asarray(consistency(jax.random.key(1), normals, mean, 0.0, sizes, epsilon, REPEATS))
    expected = 2 * scipy.stats.norm.sf(epsilon * np.sqrt(sizes) / STD)
    assert (np.abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / REPEATS)).all()
    assert (np.diff(found) < 0).all()


@pytest.mark.slow
def test_repetitions_do_not_depend_on_the_chunk_or_on_how_many_follow():
    whole = repeat(jax.random.key(0), normals, mean, 4, 50)
    np.testing.assert_allclose(repeat(jax.random.key(0), normals, mean, 4, 50, chunk=7), whole, rtol=1e-6)
    np.testing.assert_allclose(repeat(jax.random.key(0), normals, mean, 4, 20), whole[:20], rtol=1e-6)
    x = jnp.asarray(np.random.default_rng(0).normal(size=9), jnp.float32)
    few = bootstrap(jax.random.key(0), mean, x, 20, chunk=6)
    np.testing.assert_allclose(few, bootstrap(jax.random.key(0), mean, x, 50)[:20], rtol=1e-6)


def test_bootstrap_of_a_mean_has_its_closed_form_error():
    # Given the sample, θ̂* is a mean of m draws of it: E = x̄ and Var = (1/m) Σ (x − x̄)²/m, exactly.
    x = np.random.default_rng(0).gamma(2.0, size=12).astype(np.float32)
    found = np.asarray(bootstrap(jax.random.key(0), mean, jnp.asarray(x)))
    error = x.std() / np.sqrt(12)
    assert found.shape == (10_000,)
    assert abs(found.mean() - x.mean()) < 4 * error / 100
    assert found.std() == pytest.approx(error, rel=0.04)
    assert abs(scipy.stats.skew(found) - scipy.stats.skew(x) / np.sqrt(12)) < 0.1


def test_bootstrap_draws_rows_of_the_sample():
    x = jnp.arange(12.0).reshape(6, 2)
    rows = np.asarray(bootstrap(jax.random.key(0), lambda s: s, x, 200))
    assert rows.shape == (200, 6, 2) and (rows[..., 1] - rows[..., 0] == 1).all()
    counts = np.bincount((rows[..., 0] / 2).astype(int).ravel(), minlength=6)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_bad_counts_and_shapes_are_refused():
    key = jax.random.key(0)
    cases = [
        (lambda: repeat(key, normals, mean, 0, 5), "m must be"),
        (lambda: repeat(key, normals, mean, 5, 0), "repeats must be"),
        (lambda: repeat(key, normals, mean, 5, 5, chunk=0), "chunk must be"),
        (lambda: bootstrap(key, mean, jnp.zeros(0)), "m must be"),
        (lambda: bootstrap(key, mean, jnp.zeros(3), 0), "replicates must be"),
        (lambda: estimator_study(key, normals, variances, jnp.zeros(3), 5, 50), "truth has shape"),
        (lambda: consistency(key, normals, mean, 0.0, (4,), -1.0), "epsilon"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.slow
def test_ten_thousand_estimators_at_once_are_five_times_faster_than_a_loop():
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=50).astype(np.float32)
    device = jnp.asarray(x)

    def loop():
        def one():
            a, b = x[rng.integers(len(x), size=len(x))].T
            a, b = a - a.mean(), b - b.mean()
            return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())

        return np.array([one() for _ in range(10_000)])

    def seconds(run):
        began = time.perf_counter()
        values = np.asarray(run())
        return time.perf_counter() - began, values.std()

    # The other tests compile without LLVM's optimiser, which users have.
    options = {"xla_backend_optimization_level": 3}
    lowered = jax.jit(lambda key, x: bootstrap(key, correlation, x)).lower(jax.random.key(0), device)
    compiled = lowered.compile(compiler_options=options)
    ours = lambda: compiled(jax.random.key(0), device)  # noqa: E731
    ours()
    pairs = [(seconds(loop), seconds(ours)) for _ in range(5)]
    slow, fast = (statistics.median(pair[i][0] for pair in pairs) for i in range(2))
    assert pairs[0][0][1] == pytest.approx(pairs[0][1][1], rel=0.05)
    print(f"loop {slow:.3f} s, vmapped {fast:.3f} s, ratio {slow / fast:.1f}")
    assert slow >= 5 * fast
