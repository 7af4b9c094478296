"""Priors against scipy: mixtures of posteriors, flows, one-hot codes (lecture 24, 28.4)."""

import jax
import jax.numpy as jnp
import linear_gaussian as known
import numpy as np
import pytest
import scipy.special
import scipy.stats

from dlcore.generative import vae
from dlcore.generative.vae import posterior as posteriors
from dlcore.generative.vae import prior as priors
from dlcore.generative.vae.model import log_prior

CODES = np.random.default_rng(3).normal(size=(2, 5, 2))


def mixture(family):
    """A VampPrior of three pseudo-inputs, and scipy's components."""
    system = known.system(family(), priors.vamp(3), spoil=0.2)
    x = jnp.asarray(np.random.default_rng(4).uniform(size=(6, known.D)), jnp.float32)
    params, _ = vae.init(jax.random.key(0), system, x)
    inputs = jax.nn.sigmoid(params["prior"]["inputs"])
    mean, log_scale = known.posterior_of(np.asarray(inputs, np.float64))
    return system, params, x, inputs, mean, np.broadcast_to(np.exp(log_scale + 0.2), mean.shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "oracle"),
    [(posteriors.normal, scipy.stats.norm), (posteriors.laplace, scipy.stats.laplace)],
    ids=["normal", "laplace"],
)
def test_a_vamp_prior_is_the_mixture_of_the_posteriors_of_its_inputs(family, oracle):
    system, params, x, inputs, mean, scale = mixture(family)
    found = log_prior(system, params, known.EMPTY, jnp.asarray(CODES, jnp.float32))
    each = oracle(mean, scale).logpdf(CODES[..., None, :]).sum(-1)
    np.testing.assert_allclose(found, scipy.special.logsumexp(each, axis=-1) - np.log(3), rtol=1e-4)
    distance = np.abs(np.asarray(inputs)[:, None] - np.clip(np.asarray(x), 0.05, 0.95)).max(-1).min(1)
    assert inputs.shape == (3, known.D) and (distance < 0.15).all(), "they begin near images"


@pytest.mark.slow
def test_draws_of_a_vamp_prior_have_its_moments_and_its_temperature():
    system, params, _, _, mean, scale = mixture(posteriors.normal)
    draws = vae.sample_codes(jax.random.key(2), system, params, known.EMPTY, (20_000, 2))
    np.testing.assert_allclose(draws.mean(0), mean.mean(0), atol=0.03)
    np.testing.assert_allclose(draws.var(0), (scale**2).mean(0) + mean.var(0), rtol=0.05)
    cold = vae.sample_codes(jax.random.key(2), system, params, known.EMPTY, (2000, 2), temperature=1e-4)
    nearest = np.abs(np.asarray(cold)[:, None] - mean).max(-1).min(1)
    assert nearest.max() < 1e-2


@pytest.mark.slow
def test_the_gradient_reaches_the_pseudo_inputs():
    system, params, *_ = mixture(posteriors.normal)
    z = jnp.asarray(CODES, jnp.float32)
    gradient = jax.grad(lambda p: log_prior(system, p, known.EMPTY, z).sum())(params)
    assert float(jnp.abs(gradient["prior"]["inputs"]).min()) > 0


def test_a_flow_prior_is_the_density_that_its_draws_have():
    mean, std = (0.5, -1.0), (0.3, 2.0)
    system = known.system(posteriors.normal(), priors.flow_prior(known.affine(mean, std)))
    found = log_prior(system, {}, known.EMPTY, jnp.asarray(CODES, jnp.float32))
    np.testing.assert_allclose(found, scipy.stats.norm(mean, std).logpdf(CODES).sum(-1), rtol=1e-4)
    draws = vae.sample_codes(jax.random.key(0), system, {}, known.EMPTY, (3000, 2), temperature=0.5)
    for column, m, s in zip(np.asarray(draws).T, mean, std, strict=True):
        assert scipy.stats.kstest(column, scipy.stats.norm(m, 0.5 * s).cdf).pvalue > 1e-3


def test_one_hot_codes_are_equally_likely():
    prior, nothing = priors.uniform(3), priors.Encoded(posteriors.normal(), {}, lambda u: (u,))
    draws = prior.sample(jax.random.key(0), {}, (3000, 6), 1.0, nothing)
    shares = np.asarray(draws).reshape(-1, 2, 3)
    assert (shares.sum(-1) == 1).all()
    assert scipy.stats.chisquare(shares.sum((0, 1))).pvalue > 1e-3
    assert float(prior.log_prob({}, draws[None], nothing)[0, 0]) == pytest.approx(-2 * np.log(3))
