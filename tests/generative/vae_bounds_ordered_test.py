"""ELBO ≤ IWAE-k, rising with k, ≤ log p(x), for every posterior under every prior of a linear-Gaussian model (24.2)."""

import jax
import jax.numpy as jnp
import linear_gaussian as known
import numpy as np
import pytest

from dlcore.generative import vae
from dlcore.generative.flow import MAF, RealNVP
from dlcore.generative.vae import posterior as posteriors
from dlcore.generative.vae import prior as priors
from dlcore.networks import MADE, MLPConditioner

MEAN, SPREAD = (0.5, -0.4), (0.8, 1.2)
BEFORE = jnp.asarray([[0.3], [-0.2]])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def masked(shape, outputs):
    return MADE(2, (8,), outputs)


def coupled(shape, outputs):
    return MLPConditioner((8,), outputs)


POSTERIORS = {
    "normal": posteriors.normal,
    "laplace": posteriors.laplace,
    "logistic": posteriors.logistic,
    "iaf": lambda: posteriors.flow(MAF(2, masked, steps=3), 2),
    "coupling": lambda: posteriors.flow(RealNVP((2,), coupled, steps=2), 2),
}
PRIORS = {
    "standard": (priors.standard_normal, ((0.0, 0.0),), ((1.0, 1.0),)),
    "flow": (lambda: priors.flow_prior(known.affine(MEAN, SPREAD)), (MEAN,), (SPREAD,)),
    "vamp": (lambda: priors.vamp(3), None, None),
}


def params_of(system, x):
    """Started params, those of flows moved away from the identity."""
    key = jax.random.key(2)
    params, _ = vae.init(key, system, x)
    leaves, form = jax.tree.flatten(params.get("posterior", {}))
    keys = jax.random.split(key, len(leaves) + 1)
    moved = [leaf + 0.05 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys[1:], strict=True)]
    return {**params, "encoder": {}, "decoder": {}, "posterior": form.unflatten(moved)}, known.EMPTY


def exact(system, params, x, name):
    _, means, stds = PRIORS[name]
    if name == "vamp":
        inputs = jax.nn.sigmoid(params["prior"]["inputs"])
        mean, log_std = known.posterior_of(np.asarray(inputs))
        means, stds = mean, np.exp(np.broadcast_to(log_std + 0.3, mean.shape))
    return known.evidence(np.asarray(x), means, stds)


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_bounds_rise_to_the_evidence(posterior, prior):
    family = POSTERIORS[posterior]()._replace(read=lambda output, spread: output)
    system = known.system(family, PRIORS[prior][0](), spoil=0.3)
    if prior == "vamp" and posterior != "normal":
        if family.name == "flow":
            with pytest.raises(ValueError, match=r"prior 'vamp' .* posterior 'flow' is too slow"):
                vae.init(jax.random.key(0), system, known.images())
        return
    x = known.images()
    params, state = params_of(system, x)
    draws = family.noise(jax.random.key(1), (6000, len(x), 2), jnp.float64)
    log_w = np.asarray(jax.jit(lambda noise: vae.log_weights(system, params, state, x, noise))(draws))
    means = [float(vae.iwae_bound(jnp.asarray(log_w.reshape(k, -1, len(x)))).mean()) for k in (1, 3, 12, 120)]
    evidence = exact(system, params, x, prior).mean()
    assert means == sorted(means) and means[0] < means[1] - 1e-3
    assert means[-1] < evidence + 2e-3
    assert means[-1] == pytest.approx(evidence, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["standard", "flow"])
def test_at_the_true_posterior_every_weight_is_the_evidence(prior):
    made, means, stds = PRIORS[prior]
    system = known.system(posteriors.normal(), made())
    truth = lambda x: known.posterior_of(x, np.asarray(means[0]), np.asarray(stds[0]))  # noqa: E731
    spread = lambda pair: (pair[0], jnp.broadcast_to(pair[1], pair[0].shape))  # noqa: E731
    system = system._replace(encoder=known.model(lambda x: spread(truth(x))))
    x = known.images()
    log_w = vae.log_weights(system, known.EMPTY, known.EMPTY, x, jax.random.normal(jax.random.key(0), (3, 12, 2)))
    expected = known.evidence(np.asarray(x), means, stds)
    np.testing.assert_allclose(log_w, np.broadcast_to(expected, (3, 12)), rtol=1e-6)


@pytest.mark.slow
def test_both_forms_of_the_divergence_agree():
    """Closed form and Monte Carlo, for each posterior that has one."""
    x = known.images()
    for make in (posteriors.normal, posteriors.laplace, posteriors.logistic):
        system = known.system(make(), priors.standard_normal(), spoil=0.2, shift=0.3)
        noise = system.posterior.noise(jax.random.key(3), (20_000, len(x), 2), jnp.float64)
        terms = vae.elbo_terms(system, known.EMPTY, known.EMPTY, x, noise)
        log_w = vae.log_weights(system, known.EMPTY, known.EMPTY, x, noise)
        drawn = -log_w - terms.reconstruction
        error = np.asarray(drawn.std(0)) / np.sqrt(20_000)
        assert (np.abs(terms.divergence() - drawn.mean(0)) < 5 * error).all()
