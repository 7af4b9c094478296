"""Naive Bayes, LDA and QDA by hand and against scikit-learn and SciPy (lecture 22)."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.naive_bayes import GaussianNB

from dlcore.generative import gaussian_classes as gaussian
from dlcore.generative.gaussian_classes import Gaussians, fit_lda, fit_naive_bayes, fit_qda

FITS = {"naive_bayes": fit_naive_bayes, "lda": fit_lda, "qda": fit_qda}
LINE = jnp.asarray([[0.0], [2.0], [4.0], [6.0]]), jnp.asarray([0, 0, 1, 1])


def problem(dtype=np.float64, dims=4, classes=3, count=60):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(count) % classes * (np.arange(count) % 5 > 0))
    mixing = np.eye(dims) + 0.3 * rng.normal(size=(classes, dims, dims))
    x = rng.normal(size=(count, dims)) * 2 + rng.normal(size=(classes, dims))[labels]
    return jnp.asarray(np.einsum("nd,nde->ne", x, mixing[labels]), dtype), jnp.asarray(labels)


def covariance(model, c):
    if isinstance(model, Gaussians):
        return np.asarray(model.covariance[c % len(model.covariance)])
    return np.diag(np.asarray(model.variance[c]))


def probability(model, x):
    return np.exp(np.asarray(gaussian.predict(model, jnp.asarray(x)).log_posterior))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-7, 1e7])
def test_naive_bayes_does_not_notice_the_units(scale):
    x = scale * jnp.asarray([[1.0], [2.0], [3.0], [7.0], [8.0], [9.0]])
    model = fit_naive_bayes(x, jnp.asarray([0, 0, 0, 1, 1, 1]), 2)
    found = probability(model, scale * jnp.asarray([[4.5], [4.8]]))[:, 0]
    np.testing.assert_allclose(found, [0.989013, 0.858149], atol=2e-6)


@pytest.mark.slow
def test_lda_divides_by_n_unless_told_to_be_unbiased():
    x, labels = LINE
    fit = jax.jit(fit_lda, static_argnums=2, static_argnames="unbiased")
    for unbiased, expected in ((False, 0.119203), (True, 0.268941)):
        model = fit(x, labels, 2, unbiased=unbiased)
        at = jnp.asarray([[2.5]])
        kernel, bias = gaussian.linear(model)
        joint = gaussian.log_likelihood(model, at) + model.log_prior
        paths = {
            "predict": probability(model, at)[0, 1],
            "linear": jax.nn.softmax(at @ kernel + bias)[0, 1],
            "joint": jax.nn.softmax(joint)[0, 1],
            "observed": np.exp(gaussian.predict(model, at, jnp.asarray([[True]])).log_posterior)[0, 1],
        }
        for name, value in paths.items():
            assert float(value) == pytest.approx(expected, abs=2e-6), name


@pytest.mark.slow
def test_qda_refuses_a_singular_class_by_its_number_and_a_ridge_mends_it():
    t = np.arange(-2.0, 3.0)
    x = jnp.asarray(np.concatenate([np.stack([t, 2 * t], 1), [[0, 3], [2, 3], [0, 5], [2, 5], [1, 4]]]), jnp.float32)
    labels = jnp.repeat(jnp.arange(2), 5)
    with pytest.raises(ValueError, match=r"class 0 is singular.*shrinkage or ridge"):
        fit_qda(x, labels, 2)
    for units in (1e-6, 1e6):
        with pytest.raises(ValueError, match="class 0 is singular"):
            fit_qda(x * jnp.asarray([1.0, units]), labels, 2)
    found = probability(fit_qda(x, labels, 2, ridge=1e-3), x).argmax(1)
    np.testing.assert_array_equal(found, labels)
    # Far apart scales are no reason to refuse.
    fit_qda(x[5:] * jnp.asarray([1e-6, 1e6]), jnp.zeros(5, jnp.int32), 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fit", "oracle"),
    [
        (fit_naive_bayes, GaussianNB()),
        (lambda *a: fit_naive_bayes(*a, smoothing=0.1), GaussianNB(var_smoothing=0.1)),
        (fit_lda, LinearDiscriminantAnalysis(solver="lsqr")),
        (lambda *a: fit_lda(*a, shrinkage=0.3), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)),
    ],
    ids=["naive_bayes", "naive_bayes_smoothed", "lda", "lda_shrunk"],
)
def test_posteriors_are_those_of_scikit_learn(fit, oracle):
    with jax.enable_x64(True):
        x, labels = problem()
        expected = oracle.fit(np.asarray(x), np.asarray(labels)).predict_log_proba(np.asarray(x))
        model = fit(jnp.asarray(x), jnp.asarray(labels), 3)
        found = np.asarray(jax.jit(gaussian.predict)(model, jnp.asarray(x)).log_posterior)
        np.testing.assert_allclose(found, np.maximum(expected, -600), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_the_posterior_of_qda_is_that_of_scikit_learn_with_its_divisor():
    with jax.enable_x64(True):
        x, labels = problem()
        oracle = QuadraticDiscriminantAnalysis(store_covariance=True).fit(np.asarray(x), np.asarray(labels))
        # Releases of scikit-learn differ in what they divide by.
        biased = np.cov(np.asarray(x)[np.asarray(labels) == 0].T, ddof=0)
        unbiased = not np.allclose(oracle.covariance_[0], biased)
        model = fit_qda(x, labels, 3, unbiased=unbiased)
        np.testing.assert_allclose(model.covariance, oracle.covariance_, rtol=1e-9, atol=1e-12)
        expected = oracle.predict_log_proba(np.asarray(x))
        np.testing.assert_allclose(gaussian.predict(model, x).log_posterior, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("unbiased", [False, True])
def test_covariances_are_those_of_numpy_with_either_divisor(unbiased):
    with jax.enable_x64(True):
        x, labels = problem()
        own = [np.asarray(x)[np.asarray(labels) == c] for c in range(3)]
        qda = fit_qda(x, labels, 3, unbiased=unbiased)
        np.testing.assert_allclose(qda.covariance, [np.cov(part.T, ddof=int(unbiased)) for part in own], rtol=1e-10)
        scatter = sum(np.cov(part.T, ddof=0) * len(part) for part in own)
        lda = fit_lda(x, labels, 3, unbiased=unbiased)
        np.testing.assert_allclose(lda.covariance[0], scatter / (len(x) - 3 * unbiased), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_the_density_is_that_of_scipy_and_missing_features_are_integrated_out(name):
    with jax.enable_x64(True):
        x, labels = problem()
        model = FITS[name](jnp.asarray(x), jnp.asarray(labels), 3)
        observed = np.random.default_rng(1).random(x.shape) < 0.5
        observed[0], observed[1] = True, False
        given = np.where(observed, x, np.nan)
        found = jax.jit(gaussian.log_likelihood)(model, jnp.asarray(given), jnp.asarray(observed))
        for i in range(12):
            o = observed[i]
            for c in range(3):
                wide = covariance(model, c)
                part = np.asarray(x[i])[o], np.asarray(model.mean[c])[o], wide[np.ix_(o, o)]
                expected = scipy.stats.multivariate_normal.logpdf(*part) if o.any() else 0.0
                assert float(found[i, c]) == pytest.approx(expected, rel=1e-9, abs=1e-9)
        # Nothing observed leaves the prior.
        nothing = gaussian.predict(model, jnp.asarray(given), jnp.asarray(observed)).log_posterior[1]
        np.testing.assert_allclose(nothing, model.log_prior, atol=1e-12)
        shared = gaussian.log_likelihood(model, jnp.asarray(x), jnp.asarray(observed[2]))
        rows = gaussian.log_likelihood(model, jnp.asarray(x), jnp.asarray(np.broadcast_to(observed[2], x.shape)))
        np.testing.assert_allclose(shared, rows, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_rows_that_do_not_count_change_nothing(name):
    x, labels = problem(np.float32)
    where = np.arange(len(x)) % 4 > 0
    spoiled = np.where(where[:, None], x, np.nan)
    part = FITS[name](jnp.asarray(spoiled), jnp.asarray(labels), 3, where=jnp.asarray(where))
    alone = FITS[name](jnp.asarray(x[where]), jnp.asarray(labels[where]), 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), part, alone)


def test_shrinkage_goes_from_the_covariance_to_a_sphere():
    x, labels = problem(np.float32)
    plain, half, sphere = (fit_qda(x, labels, 3, shrinkage=s).covariance for s in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(half, (plain + sphere) / 2, rtol=1e-5, atol=1e-5)
    trace = np.trace(plain, axis1=1, axis2=2) / 4
    np.testing.assert_allclose(sphere, trace[:, None, None] * np.eye(4), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_draws_have_the_moments_of_their_class(name):
    x, labels = problem(np.float32, dims=2)
    model = FITS[name](jnp.asarray(x), jnp.asarray(labels), 3)
    wanted = jnp.tile(jnp.arange(3), 20_000)
    drawn = np.asarray(jax.jit(gaussian.draw)(jax.random.key(0), model, wanted))
    for c in range(3):
        own = drawn[np.asarray(wanted) == c]
        wide = covariance(model, c)
        size = np.sqrt(np.diag(wide))
        np.testing.assert_allclose(own.mean(0) / size, model.mean[c] / size, atol=0.05)
        np.testing.assert_allclose(np.cov(own.T) / np.outer(size, size), wide / np.outer(size, size), atol=0.05)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fit_lda(*LINE, 3), "class 2 of 3 has no example"),
        (lambda: fit_lda(LINE[0][:, 0], LINE[1], 2), r"\[n, d\]"),
        (lambda: fit_lda(LINE[0], LINE[1][:3], 2), "labels have shape"),
        (lambda: fit_qda(*LINE, 2, shrinkage=1.5), "shrinkage must lie"),
        (lambda: fit_qda(*LINE, 2, ridge=-1.0), "ridge must not be negative"),
        (lambda: fit_naive_bayes(jnp.ones((4, 2)), LINE[1], 2), "feature 0 does not vary in class 0"),
        (lambda: fit_lda(jnp.ones((4, 2)), LINE[1], 2), "feature 0 does not vary"),
        (lambda: gaussian.linear(fit_qda(*LINE, 2)), "2 covariances"),
        (lambda: gaussian.log_likelihood(fit_lda(*LINE, 2), jnp.ones((3, 2))), r"it must be \(3, 1\)"),
        (lambda: gaussian.predict(fit_lda(*LINE, 2), LINE[0], jnp.ones((3, 1), bool)), "observed has shape"),
    ],
)
def test_errors_say_what_is_wrong(make, message, monkeypatch):
    # As outside of this suite: otherwise jaxtyping refuses first what its annotations forbid.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        make()


def test_a_model_is_a_tree_of_arrays():
    assert isinstance(jax.tree.map(lambda a: a, fit_lda(*LINE, 2)), Gaussians)
