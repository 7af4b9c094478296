"""Two levels of codes in a linear-Gaussian model with one number at each, whose evidence is known (lecture 24)."""

import jax
import jax.numpy as jnp
import linear_gaussian as known
import numpy as np
import pytest
import scipy.stats

from dlcore.generative import vae
from dlcore.generative.decoder import gaussian
from dlcore.generative.vae.hierarchical import two_level, two_level_prior
from dlcore.generative.vae.model import log_prior
from dlcore.generative.vae.prior import Encoded, standard_normal
from dlcore.nn import BatchNorm

A, S = 0.8, 0.6
"""z₁ = A z₂ + S ε."""
V = np.random.default_rng(1).normal(size=(3, 2))
"""x = V (z₂, z₁) + 0.5 ε."""
STD = 0.5
JOINT = np.array([[1, A], [A, A**2 + S**2]])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def ladder(spoil=0.0):
    """The model with its true posterior, q(z₂|x) q(z₁|z₂, x), the log σ of both raised by `spoil`."""
    precision = np.linalg.inv(JOINT) + V.T @ V / STD**2
    covariance = np.linalg.inv(precision)
    slope = covariance[0, 1] / covariance[0, 0]
    rest = np.log(covariance[1, 1] - slope * covariance[0, 1]) / 2 + spoil

    def encode(x):
        mean = x @ V @ covariance / STD**2
        log_std = jnp.full((len(x), 1), np.log(covariance[0, 0]) / 2 + spoil)
        return mean[:, :1], log_std, mean

    def lower(z2, features):
        return features[:, 1:] + slope * (z2 - features[:, :1]), jnp.full(z2.shape, rest)

    posterior = two_level(known.model(lower), upper=1, lower=1)
    prior = two_level_prior(known.model(lambda z: (A * z, jnp.full(z.shape, np.log(S)))), upper=1, lower=1)
    networks = known.model(encode), known.model(lambda z: z @ V.T)
    return vae.VAE(*networks, gaussian(STD), posterior=posterior, prior=prior)


def data(count=8):
    exact = scipy.stats.multivariate_normal(np.zeros(3), V @ JOINT @ V.T + STD**2 * np.eye(3))
    x = exact.rvs(count, random_state=2)
    return jnp.asarray(x), exact.logpdf(x)


@pytest.mark.slow
def test_at_the_true_posterior_every_weight_is_the_evidence():
    x, exact = data()
    log_w = vae.log_weights(ladder(), known.EMPTY, known.EMPTY, x, jax.random.normal(jax.random.key(0), (3, 8, 2)))
    np.testing.assert_allclose(log_w, np.broadcast_to(exact, (3, 8)), rtol=1e-9)


@pytest.mark.slow
def test_bounds_rise_to_the_evidence():
    x, exact = data()
    noise = jax.random.normal(jax.random.key(1), (6000, 8, 2))
    log_w = vae.log_weights(ladder(0.5), known.EMPTY, known.EMPTY, x, noise)
    means = [float(vae.iwae_bound(log_w.reshape(k, -1, 8)).mean()) for k in (1, 3, 12, 120)]
    assert means == sorted(means) and means[0] < exact.mean() - 0.05
    assert means[-1] == pytest.approx(exact.mean(), abs=0.01)
    terms = vae.elbo_terms(ladder(0.5), known.EMPTY, known.EMPTY, x, noise)
    assert -float((terms.reconstruction.mean(0) + terms.divergence()).mean()) == pytest.approx(means[0], rel=1e-9)


def test_the_prior_is_the_joint_normal_of_both_levels_and_its_draws_are_of_it():
    z = np.random.default_rng(0).normal(size=(2, 4, 2))
    found = log_prior(ladder(), {}, known.EMPTY, jnp.asarray(z))
    np.testing.assert_allclose(found, scipy.stats.multivariate_normal([0, 0], JOINT).logpdf(z), rtol=1e-9)
    draws = np.asarray(vae.sample_codes(jax.random.key(0), ladder(), {}, known.EMPTY, (20_000, 2)))
    np.testing.assert_allclose(np.cov(draws.T), JOINT, atol=0.04)


@pytest.mark.slow
def test_sticking_the_landing_goes_through_both_levels():
    """At the true posterior its gradient is 0 for every draw, whatever parameter of the encoder is moved."""
    x, _ = data(2)
    system = ladder()

    def loss(shift):
        encoder = known.model(lambda x: tuple(part + shift for part in system.encoder.apply({}, {}, x)[0]))
        moved = vae.negative_elbo(system._replace(encoder=encoder), gradient="stl")
        return moved(known.EMPTY, known.EMPTY, {"image": x}, key=jax.random.key(4), train=True)[0]

    assert abs(float(jax.grad(loss)(0.0))) < 1e-10


def test_what_a_level_must_be():
    with pytest.raises(ValueError, match="two levels need both"):
        vae.check(ladder()._replace(prior=standard_normal()))
    normed = two_level_prior(BatchNorm(), upper=2, lower=1)
    with pytest.raises(ValueError, match="has state"):
        normed.init(jax.random.key(0), jnp.zeros((2, 4)), jnp.zeros((2, 3)))
    wide = two_level_prior(known.model(lambda z: (z, z)), upper=1, lower=2)
    with pytest.raises(ValueError, match=r"network's μ has shape \(2, 1\); it must be \(2, 2\)"):
        wide.log_prob({}, jnp.zeros((1, 2, 3)), Encoded(ladder().posterior, {}, lambda u: (u,)))
