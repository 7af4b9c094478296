"""Posteriors against scipy's densities, quadrature and Jacobians (lecture 24.1, 28.4)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from dlcore.generative import vae
from dlcore.generative.decoder import bernoulli
from dlcore.generative.flow import MAF, RealNVP
from dlcore.generative.vae import posterior as posteriors
from dlcore.generative.vae import prior as priors
from dlcore.generative.vae.categorical import categorical
from dlcore.networks import MADE, MLPConditioner
from dlcore.nn import Dense

FAMILIES = {
    "normal": (posteriors.normal, scipy.stats.norm),
    "laplace": (posteriors.laplace, scipy.stats.laplace),
    "logistic": (posteriors.logistic, scipy.stats.logistic),
}
MEAN, LOG_SCALE = np.array([[0.7, -1.2], [0.0, 2.0]]), np.array([[-0.5, 0.4], [-1.5, 0.1]])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_densities_are_scipys_and_the_divergence_is_the_integral(name):
    make, family = FAMILIES[name]
    posterior, outputs = make(), (jnp.asarray(MEAN), jnp.asarray(LOG_SCALE))
    noise = posterior.noise(jax.random.key(0), (5, 2, 2))
    z, log_q = posterior.place({}, outputs, noise)
    expected = family(MEAN, np.exp(LOG_SCALE)).logpdf(np.asarray(z)).sum(-1)
    np.testing.assert_allclose(log_q, expected, rtol=1e-9)
    np.testing.assert_allclose(posterior.log_prob({}, outputs, z), expected, rtol=1e-9)
    standard = scipy.stats.norm(0, 1)
    for i, j in np.ndindex(2, 2):
        one = family(MEAN[i, j], np.exp(LOG_SCALE[i, j]))
        kl, _ = scipy.integrate.quad(
            lambda t, one=one: one.pdf(t) * (one.logpdf(t) - standard.logpdf(t)), -40, 40, points=[MEAN[i, j]]
        )
        assert float(posterior.kl(outputs)[i, j]) == pytest.approx(kl, rel=1e-6)


def test_all_pairs_at_once_are_the_densities_one_by_one():
    posterior, outputs = posteriors.normal(), (jnp.asarray(MEAN), jnp.asarray(LOG_SCALE))
    z = jax.random.normal(jax.random.key(1), (7, 2))
    found = posterior.pairs({}, outputs, z)
    expected = scipy.stats.norm(MEAN, np.exp(LOG_SCALE)).logpdf(np.asarray(z)[:, None]).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


FLOWS = {
    "iaf": lambda: MAF(3, lambda shape, n: MADE(3, (8,), n, conditional=True), steps=2, conditional=True),
    "coupling": lambda: RealNVP(
        (3,), lambda shape, n: MLPConditioner((8,), n, conditional=True), steps=2, conditional=True
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_posterior_counts_volumes_and_hears_its_context(name):
    posterior = posteriors.flow(FLOWS[name](), 3)
    output = jax.random.normal(jax.random.key(0), (2, 3 + 3 + 4))
    outputs = posterior.read(output, "log_std")
    assert [part.shape for part in outputs] == [(2, 3), (2, 3), (2, 4)]
    params = posterior.init(jax.random.key(1), jax.random.normal(jax.random.key(5), (2, 3)), outputs)
    params = jax.tree.map(lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)
    noise = jax.random.normal(jax.random.key(2), (4, 2, 3))
    z, log_q = posterior.place(params, outputs, noise)

    def one(eps, *outputs):
        return posterior.place(params, tuple(part[None] for part in outputs), eps[None, None])[0][0, 0]

    jacobians = jax.jit(jax.vmap(jax.jacobian(one), (0, *[None] * 3)))(noise[:, 1], *(part[1] for part in outputs))
    base = scipy.stats.norm.logpdf(np.asarray(noise[:, 1])).sum(-1)
    np.testing.assert_allclose(log_q[:, 1], base - np.linalg.slogdet(np.asarray(jacobians))[1], rtol=1e-8)
    np.testing.assert_allclose(posterior.log_prob(params, outputs, z), log_q, rtol=1e-6)
    other = (outputs[0], outputs[1], outputs[2] + 1)
    assert not np.allclose(posterior.place(params, other, noise)[0], z)
    assert posterior.centre(params, outputs).shape == (2, 3)


REFUSED = {
    "no context": (lambda: posteriors.flow(FLOWS["iaf"](), 3).read(jnp.zeros((2, 6)), "log_std"), "μ, log σ and h"),
    "logits": (lambda: categorical(3).read(jnp.zeros((2, 7)), "log_std"), r"n · 3 logits"),
    "one category": (lambda: categorical(1), "at least 2, got 1"),
    "vamp of a flow": (
        lambda: started(posteriors.flow(FLOWS["iaf"](), 3), priors.vamp(2)),
        "prior 'vamp' needs .* posterior 'flow'",
    ),
    "normal over one-hot": (lambda: started(categorical(3), priors.standard_normal()), "has one-hot codes"),
    "uniform over real": (lambda: started(posteriors.normal(), priors.uniform(3)), "has real codes"),
    "vamp of none": (lambda: priors.vamp(0), "components must be a whole number of at least 1"),
}


def started(posterior, prior):
    system = vae.VAE(Dense(6), Dense(4), bernoulli(), posterior=posterior, prior=prior)
    return vae.init(jax.random.key(0), system, jnp.zeros((2, 4)))


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused_by_name(name):
    call, text = REFUSED[name]
    with pytest.raises(ValueError, match=text):
        call()
