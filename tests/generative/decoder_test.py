"""Decoder likelihoods: negative log-likelihoods against scipy, masses that sum to 1, moments of draws (lecture 23)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from dlcore.generative import decoder

RNG = np.random.default_rng(0)
SHAPE = (3, 2, 2, 2)
FAMILIES = {
    "bernoulli": decoder.bernoulli(),
    "gaussian": decoder.gaussian(0.3),
    "gaussian_learned": decoder.gaussian_learned(),
    "categorical": decoder.categorical(5),
}


def outputs_of(family):
    return jnp.asarray(RNG.normal(size=(*SHAPE[:-1], SHAPE[-1] * family.channels)), jnp.float32)


def test_bernoulli_is_scipys():
    a, x = outputs_of(FAMILIES["bernoulli"]), jnp.asarray(RNG.integers(2, size=SHAPE), jnp.float32)
    expected = -scipy.stats.bernoulli.logpmf(x, scipy.special.expit(a))
    np.testing.assert_allclose(FAMILIES["bernoulli"].nll(a, x), expected, rtol=1e-5)


def test_gaussians_are_scipys():
    x = jnp.asarray(RNG.random(SHAPE), jnp.float32)
    fixed = outputs_of(FAMILIES["gaussian"])
    np.testing.assert_allclose(
        FAMILIES["gaussian"].nll(fixed, x), -scipy.stats.norm.logpdf(x, fixed, 0.3), rtol=1e-4, atol=1e-5
    )
    both = outputs_of(FAMILIES["gaussian_learned"])
    mean, log_std = both[..., 0::2], np.clip(both[..., 1::2], *decoder.LOG_STD_RANGE)
    expected = -scipy.stats.norm.logpdf(x, mean, np.exp(log_std))
    np.testing.assert_allclose(FAMILIES["gaussian_learned"].nll(both, x), expected, rtol=1e-4, atol=1e-5)


def test_categorical_counts_every_level_once():
    family, a = FAMILIES["categorical"], outputs_of(FAMILIES["categorical"])
    levels = [jnp.full(SHAPE, k / 4, jnp.float32) for k in range(5)]
    mass = np.stack([np.exp(-family.nll(a, x)) for x in levels])
    np.testing.assert_allclose(mass.sum(0), 1, rtol=1e-5)
    logits = a.reshape(*SHAPE, 5)
    np.testing.assert_allclose(mass, np.moveaxis(scipy.special.softmax(logits, -1), -1, 0), rtol=1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize("name", FAMILIES)
def test_draws_have_the_mean(name):
    family, a = FAMILIES[name], outputs_of(FAMILIES[name])
    draws = jax.vmap(lambda key: family.sample(key, a))(jax.random.split(jax.random.key(1), 4000))
    error = draws.std(0) / np.sqrt(4000) + 1e-4
    assert (np.abs(draws.mean(0) - family.mean(a)) < 5 * error).all()
    assert family.nll(a, draws[0]).shape == SHAPE


@pytest.mark.sampled
@pytest.mark.parametrize("name", FAMILIES)
def test_finite_at_extremes(name):
    family = FAMILIES[name]
    x = jnp.ones(SHAPE)
    for scale in (1e4, -1e4):
        a = jnp.full((*SHAPE[:-1], SHAPE[-1] * family.channels), scale)
        value, gradient = jax.value_and_grad(lambda a: family.nll(a, x).sum())(a)
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="std must be positive"):
        decoder.gaussian(0.0)
    with pytest.raises(ValueError, match="at least 2"):
        decoder.categorical(1)
    with pytest.raises(ValueError, match="5 per sub-pixel"):
        FAMILIES["categorical"].nll(jnp.zeros((1, 7)), jnp.zeros((1, 1)))
    with pytest.raises(ValueError, match="multiple of 5"):
        FAMILIES["categorical"].mean(jnp.zeros((1, 7)))
