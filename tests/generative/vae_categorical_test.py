"""Categorical codes of a model so small that log p(x) is a sum over all of them (lecture 24.1)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative import vae
from dlcore.generative.decoder import bernoulli
from dlcore.generative.vae import prior as priors
from dlcore.generative.vae.categorical import annealed, categorical, concrete
from dlcore.nn import Dense

VARIABLES, CATEGORIES, D = 2, 3, 4
X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (5, D)), jnp.float32)
ALL = np.asarray([np.eye(3)[list(c)].reshape(-1) for c in itertools.product(range(3), repeat=2)], np.float32)


def system(posterior):
    return vae.VAE(
        Dense(VARIABLES * CATEGORIES), Dense(D), bernoulli(), posterior=posterior, prior=priors.uniform(CATEGORIES)
    )


@pytest.fixture(scope="module")
def params():
    started, _ = vae.init(jax.random.key(0), system(categorical(CATEGORIES)), X)
    return jax.tree.map(lambda leaf: leaf + 0.3 * jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape), started)


EMPTY = {"encoder": {}, "decoder": {}}


def by_enumeration(params):
    """log p(x), and the ELBO of the posterior that the encoder gives, from every code."""
    logits = np.asarray(X @ params["encoder"]["kernel"] + params["encoder"]["bias"]).reshape(5, 2, 3)
    log_q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    log_q = np.einsum("bij,kij->kb", log_q, ALL.reshape(9, 2, 3))
    a = np.asarray(ALL @ params["decoder"]["kernel"] + params["decoder"]["bias"])
    log_p = (np.asarray(X)[None] * a[:, None] - np.log1p(np.exp(a))[:, None]).sum(-1)
    joint = log_p - 2 * np.log(3)
    return np.log(np.exp(joint).sum(0)), (np.exp(log_q) * (joint - log_q)).sum(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["categorical", "concrete"])
def test_bounds_are_of_the_discrete_model(name, params):
    made = {"categorical": lambda: categorical(3), "concrete": lambda: concrete(3, lambda step: 0.5)}[name]()
    exact, elbo = by_enumeration(params)
    noise = made.noise(jax.random.key(1), (8000, 5, 6))
    terms = vae.elbo_terms(system(made), params, EMPTY, X, noise)
    found = -(terms.reconstruction.mean(0) + terms.divergence())
    np.testing.assert_allclose(found, elbo, atol=5 * float(terms.reconstruction.std(0).max()) / 8000**0.5)
    log_w = vae.log_weights(system(made), params, EMPTY, X, noise)
    means = [float(vae.iwae_bound(log_w.reshape(k, -1, 5)).mean()) for k in (1, 4, 200)]
    assert means == sorted(means) and means[-1] < exact.mean() + 1e-3
    assert means[-1] == pytest.approx(exact.mean(), abs=0.01)
    z, _ = made.place({}, (jnp.zeros((5, 6)),), noise)
    assert set(np.unique(z)) == {0.0, 1.0}


@pytest.mark.slow
def test_training_sees_relaxed_codes_at_the_temperature_of_its_step(params):
    temperature = annealed(1.0, 0.1, 10)
    made = concrete(3, temperature)
    noise = jax.random.gumbel(jax.random.key(2), (4, 5, 6))
    for step, tau in ((0, 1.0), (5, 0.1**0.5), (10, 0.1), (99, 0.1)):
        z, log_q = made.training(jnp.int32(step)).place({}, (jnp.zeros((5, 6)),), noise)
        logits = np.asarray(noise, np.float64).reshape(4, 5, 2, 3) / tau
        expected = np.exp(logits - logits.max(-1, keepdims=True))
        expected /= expected.sum(-1, keepdims=True)
        np.testing.assert_allclose(z.reshape(4, 5, 2, 3), expected, rtol=1e-4, atol=1e-6)
        assert log_q is None
    objective = vae.negative_elbo(system(made))

    def loss(params, step):
        return objective(params, EMPTY, {"image": X}, key=jax.random.key(0), train=True, step=jnp.int32(step))[0]

    assert float(loss(params, 0)) != float(loss(params, 10))
    gradient = jax.grad(loss)(params, 3)["encoder"]["kernel"]
    assert float(jnp.abs(gradient).min()) > 0


def test_the_exact_codes_train_by_score(params):
    objective = vae.negative_elbo(system(categorical(3)), gradient="rloo", samples=4)

    def gradient(key):
        return jax.grad(lambda p: objective(p, EMPTY, {"image": X}, key=key, train=True)[0])(params)["encoder"]["bias"]

    values = np.asarray(jax.jit(jax.vmap(gradient))(jax.random.split(jax.random.key(0), 3000)))
    step = 1e-3
    expected = []
    for i in range(6):
        moved = [jax.tree.map(lambda leaf: leaf, params) for _ in range(2)]
        for sign, one in zip((1, -1), moved, strict=True):
            one["encoder"]["bias"] = params["encoder"]["bias"] + sign * step * jnp.eye(6)[i]
        up, down = (-by_enumeration(one)[1].mean() for one in moved)
        expected.append((up - down) / (2 * step))
    assert (np.abs(values.mean(0) - expected) < 4.5 * values.std(0) / 3000**0.5 + 2e-3).all()


REFUSED = {
    "density of relaxed codes": (
        lambda: vae.negative_iwae(system(concrete(3, lambda step: 0.5)), samples=2),
        "posterior 'concrete' has no density",
    ),
    "relaxed under a mixture": (
        lambda: vae.negative_elbo(system(concrete(3, lambda step: 0.5))._replace(prior=priors.vamp(2))),
        "prior 'vamp' has no closed form",
    ),
    "exact by path": (lambda: vae.negative_elbo(system(categorical(3))), "use gradient='rloo'"),
    "rising temperature": (lambda: annealed(0.5, 1.0, 10), r"start=0.5 must be at least end=1.0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_relaxed_codes_cannot_do(name):
    call, text = REFUSED[name]
    with pytest.raises(ValueError, match=text):
        call()
