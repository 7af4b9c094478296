"""Bayes' rule over densities of classes, at any size of their logs (lecture 22)."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.stats

from dlcore.generative import classifier
from dlcore.generative.classifier import bayes, class_log_prior, log_likelihoods


@pytest.mark.parametrize(
    ("prior", "posterior", "evidence"),
    [((0.5, 0.5), 0.952574, -1000.644560), ((0.01, 0.99), 0.168665, -1002.825328)],
)
def test_bayes_at_a_thousand_nats(prior, posterior, evidence):
    for double, tolerance in ((True, 5e-7), (False, 1e-4)):
        with jax.enable_x64(double):
            found = bayes(jnp.asarray([[-1000.0, -1003.0]]), jnp.log(jnp.asarray(prior)))
            assert float(jnp.exp(found.log_posterior[0, 0])) == pytest.approx(posterior, abs=1e-6)
            assert float(found.log_evidence[0]) == pytest.approx(evidence, abs=tolerance)
            assert float(jnp.exp(found.log_posterior).sum()) == pytest.approx(1, abs=1e-6)


def test_a_class_that_is_ruled_out_has_probability_0_and_no_class_at_all_is_nan():
    found = bayes(jnp.asarray([[-3.0, -1.0], [-jnp.inf, -2.0]]), jnp.asarray([0.0, -jnp.inf]))
    assert float(found.log_posterior[0, 0]) == 0.0 and float(found.log_posterior[0, 1]) == -jnp.inf
    assert float(found.log_evidence[0]) == -3.0 and bool(jnp.isnan(found.log_posterior[1]).all())


def test_priors_are_frequencies_of_what_counts():
    labels, where = jnp.asarray([0, 1, 1, 1, 2, 2]), jnp.asarray([1, 1, 1, 0, 1, 0])
    np.testing.assert_allclose(jnp.exp(class_log_prior(labels, 4)), [1 / 6, 3 / 6, 2 / 6, 0], atol=1e-7)
    np.testing.assert_allclose(jnp.exp(class_log_prior(labels, 3, where=where)), [0.25, 0.5, 0.25], atol=1e-7)


def test_every_class_judges_every_row_with_the_same_draws():
    means = np.asarray([-1.0, 0.5, 3.0])
    x = np.random.default_rng(0).normal(size=(5, 2))

    def log_prob(x, labels, noise):
        assert x.shape == (15, 2) and labels.shape == (15,) and noise.shape == (15,)
        return jax.scipy.stats.norm.logpdf(x, jnp.asarray(means)[labels][:, None]).sum(-1) + noise

    noise = jnp.arange(5.0)
    found = log_likelihoods(log_prob, jnp.asarray(x), 3, noise)
    exact = scipy.stats.norm.logpdf(x[:, None], means[:, None]).sum(-1) + np.arange(5)[:, None]
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    with pytest.raises(ValueError, match="per example and class"):
        log_likelihoods(lambda x, labels: x, jnp.asarray(x), 3)


def test_samples_are_of_the_mixture():
    prior = np.asarray([0.2, 0.5, 0.3])
    means = jnp.asarray([-5.0, 0.0, 5.0])

    def draw(key, labels):
        return means[labels] + jax.random.normal(key, labels.shape)

    x, labels = classifier.sample(jax.random.key(0), jnp.log(jnp.asarray(prior)), draw, 20_000)
    np.testing.assert_allclose(np.bincount(labels, minlength=3) / 20_000, prior, atol=0.02)
    mixture = lambda t: sum(p * scipy.stats.norm.cdf(t, float(m)) for p, m in zip(prior, means, strict=True))  # noqa: E731
    assert scipy.stats.kstest(np.asarray(x), mixture).pvalue > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bayes(jnp.zeros((2, 3)), jnp.zeros(2)), "one number per class"),
        (lambda: class_log_prior(jnp.asarray([0, 3]), 3), "outside 0"),
        (lambda: classifier.sample(jax.random.key(0), jnp.zeros(3), lambda k, y: y, 2), "add up to 1"),
    ],
)
def test_errors_say_what_is_wrong(make, message, monkeypatch):
    # As outside of this suite: otherwise jaxtyping refuses first what its annotations forbid.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        make()
