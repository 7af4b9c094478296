"""What the networks of a VAE may return: one array, or a pair, to the same bits (lecture 23, 24)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative import decoder, vae
from dlcore.types import Model

B, D, LATENT = 4, 6, 2
RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
X = jnp.asarray(RNG.random((B, D)), jnp.float32)


class Posterior(NamedTuple):
    mean: jax.Array
    log_std: jax.Array


def network(inputs, outputs, form=lambda y: y):
    """A matrix product whose output is given in some form."""
    weights = jnp.asarray(0.3 * np.random.default_rng(1).normal(size=(inputs, outputs)), jnp.float32)
    return Model(
        lambda key, x: ({"w": weights}, {}),
        lambda params, state, x, *, train=False, key=None: (form(x @ params["w"]), state),
    )


def halves(y):
    return tuple(jnp.split(y, 2, axis=-1))


PAIRS = {"tuple": halves, "list": lambda y: list(halves(y)), "named tuple": lambda y: Posterior(*halves(y))}


def with_encoder(form, **settings):
    return vae.VAE(network(D, 2 * LATENT, form), network(LATENT, D), decoder.bernoulli(), **settings)


def everything(system):
    """All that a VAE computes."""
    params, state = vae.init(KEY, system, X)
    noise = jax.random.normal(KEY, (3, B, LATENT))
    objectives = (
        vae.negative_elbo(system),
        vae.negative_iwae(system, samples=3),
    )
    run = lambda f: jax.value_and_grad(lambda p: f(p, state, {"image": X}, key=KEY, train=True)[0])(params)  # noqa: E731
    return (
        vae.encode(system, params, state, X)[:2],
        vae.elbo_terms(system, params, state, X, noise),
        vae.log_weights(system, params, state, X, noise),
        vae.log_likelihood(system, params, state, X, jax.random.split(KEY, B), samples=4, chunk=2),
        [run(f) for f in objectives],
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_from_the_encoder_is_the_two_halves_of_an_array(name):
    found, expected = everything(with_encoder(PAIRS[name])), everything(with_encoder(lambda y: y))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("form", [lambda y: y, halves], ids=["array", "pair"])
def test_log_variances_are_twice_the_log_of_the_standard_deviation(form):
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½ (σ² + μ² − 1 − log σ²), by hand."""
    system = with_encoder(form, spread="log_variance")
    params, state = vae.init(KEY, system, X)
    x, w = (np.asarray(array, np.float64) for array in (X, params["encoder"]["w"]))
    mean, log_variance = np.split(x @ w, 2, axis=-1)
    np.testing.assert_allclose(vae.encode(system, params, state, X)[1], log_variance / 2, rtol=1e-5)
    found = vae.elbo_terms(system, params, state, X, jnp.zeros((1, B, LATENT))).kl
    expected = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_users_module_of_mean_and_log_variance():
    """The loss of a user's own loop, written out, in a program that is compiled."""
    system = with_encoder(halves, spread="log_variance")
    params, state = vae.init(KEY, system, X)
    objective = vae.negative_elbo(system)
    loss, _ = jax.jit(lambda p: objective(p, state, {"image": X}, key=KEY, train=True))(params)
    noise = jax.random.normal(jax.random.split(KEY, 3)[1], (1, B, LATENT))[0]
    mean, log_variance = halves(X @ params["encoder"]["w"])
    logits = (mean + jnp.exp(0.5 * log_variance) * noise) @ params["decoder"]["w"]
    cross_entropy = jnp.maximum(logits, 0) - logits * X + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    kl = -0.5 * (1 + log_variance - mean**2 - jnp.exp(log_variance)).sum(-1)
    assert float(loss) == pytest.approx(float((cross_entropy.sum(-1) + kl).mean()), rel=1e-5)


WRONG = {
    "three arrays": (lambda y: (y, y, y), r"gives a tuple of 3 arrays; it must give \(μ, log_std\)"),
    "a dict": (lambda y: {"mean": y, "log_std": y}, "gives a dict of 2 arrays"),
    "shapes that differ": (lambda y: (y, y[:, :1]), r"mean \(4, 4\), log_std \(4, 1\)"),
    "an odd number": (lambda y: y[:, :3], "gives 3 numbers; it must give μ and log_std, an even number"),
    "maps": (lambda y: (y[:, None], y[:, None]), r"μ has shape \(4, 1, 4\); it must be \(4, 4\), \[b, d\] for x"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_outputs_of_an_encoder_are_refused(name):
    form, text = WRONG[name]
    with pytest.raises(ValueError, match=text):
        vae.init(KEY, with_encoder(form), X)


def test_an_unknown_spread_is_refused():
    with pytest.raises(ValueError, match="spread must be one of log_std, log_variance, got 'std'"):
        vae.init(KEY, with_encoder(halves, spread="std"), X)


def test_shapes_are_enough_to_start():
    params, _ = vae.init(KEY, with_encoder(halves), jax.ShapeDtypeStruct(X.shape, X.dtype))
    assert params["decoder"]["w"].shape == (LATENT, D)


def neighbours(mean, log_std):
    return jnp.stack([mean, log_std], -1).reshape(*mean.shape[:-1], -1)


@pytest.mark.parametrize("pair", [tuple, list])
def test_a_pair_from_the_decoder_is_the_array_of_neighbours(pair):
    family, shape = decoder.gaussian_learned(), (2, 3, 3, 2)
    mean, log_std, x = (jnp.asarray(0.5 * RNG.normal(size=shape), jnp.float32) for _ in range(3))
    both, one = pair([mean, log_std]), neighbours(mean, log_std)
    np.testing.assert_array_equal(family.nll(both, x), family.nll(one, x))
    np.testing.assert_array_equal(family.mean(both), mean)
    np.testing.assert_array_equal(family.sample(KEY, both, 0.5), family.sample(KEY, one, 0.5))
    m, s = np.asarray(mean, np.float64), np.exp(np.asarray(log_std, np.float64))
    expected = 0.5 * ((np.asarray(x) - m) / s) ** 2 + np.log(s) + 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(family.nll(both, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_vae_whose_networks_both_return_pairs():
    """Its means and its draws, and the loss of the same VAE with arrays."""

    def system(pair):
        form = halves if pair else lambda y: neighbours(*halves(y))
        encoder = network(D, 2 * LATENT, halves if pair else lambda y: y)
        return vae.VAE(encoder, network(LATENT, 2 * D, form), decoder.gaussian_learned())

    pairs, arrays = system(True), system(False)
    jax.tree.map(np.testing.assert_array_equal, everything(pairs), everything(arrays))
    params, state = vae.init(KEY, pairs, X)
    for key in (None, KEY):
        drawn = [vae.sample_outputs(s, params, state, jnp.ones((B, LATENT)), key=key) for s in (pairs, arrays)]
        np.testing.assert_array_equal(*drawn)
        assert drawn[0].shape == (B, D)


@pytest.mark.parametrize("family", [decoder.bernoulli(), decoder.gaussian(0.3), decoder.categorical(2)])
def test_families_of_one_array_refuse_a_pair(family):
    for call in (lambda o: family.nll(o, X), family.mean, lambda o: family.sample(KEY, o)):
        with pytest.raises(ValueError, match="outputs are a tuple of 2 arrays; want one array"):
            call((X, X))


def test_wrong_pairs_of_a_learned_gaussian():
    family = decoder.gaussian_learned()
    with pytest.raises(ValueError, match=r"mean \(4, 6\), log_std \(4, 1\)"):
        family.nll((X, X[:, :1]), X)
    with pytest.raises(ValueError, match=r"a tuple of 3 arrays; want one array, or \(mean, log_std\)"):
        family.nll((X, X, X), X)
    with pytest.raises(ValueError, match="2 per sub-pixel"):
        family.nll((X[:, :3], X[:, :3]), X)


TRACED = {
    "gaussian, std": lambda s, x: decoder.gaussian(s).nll(x, x + 0.1).sum(),
    "gaussian, std of draws": lambda s, x: decoder.gaussian(s).sample(KEY, x).sum(),
    "temperature of bernoulli": lambda s, x: decoder.bernoulli().sample(KEY, x, s).sum(),
    "temperature of gaussian": lambda s, x: decoder.gaussian(0.2).sample(KEY, x, s).sum(),
    "temperature of gaussian_learned": lambda s, x: decoder.gaussian_learned().sample(KEY, x, s).sum(),
    "temperature of categorical": lambda s, x: decoder.categorical(3).sample(KEY, x, s).sum(),
    "temperature of discretized_logistic": lambda s, x: decoder.discretized_logistic(5, 2).sample(KEY, x, s).sum(),
    "temperature of colour_mixture": lambda s, x: decoder.colour_mixture(5, 1, 2).sample(KEY, x, s).sum(),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", TRACED)
def test_numbers_of_a_likelihood_may_be_traced(name):
    """Under jit and grad, to the value of the plain number; the derivative of a Gaussian's nats by hand."""
    x = X if "colour" not in name else jnp.concatenate([X, X[:, :1]], -1)
    f = lambda s: TRACED[name](s, x)  # noqa: E731
    np.testing.assert_allclose(jax.jit(f)(0.7), f(0.7), rtol=1e-5)
    slope = float(jax.jit(jax.grad(f))(0.7))
    assert math.isfinite(slope)
    if name == "gaussian, std":
        assert slope == pytest.approx(X.size * (1 / 0.7 - 0.01 / 0.7**3), rel=1e-4)


@pytest.mark.slow
def test_an_objective_made_inside_a_compiled_program():
    """A standard deviation that training anneals: the whole objective is made with it."""

    def loss(std, beta):
        system = with_encoder(halves)._replace(likelihood=decoder.gaussian(std))
        params, state = vae.init(KEY, system, X)
        objective = vae.negative_elbo(system, beta=beta, free_bits=beta)
        return objective(params, state, {"image": X}, key=KEY, train=True)[0]

    np.testing.assert_allclose(jax.jit(loss)(0.4, 0.5), loss(0.4, 0.5), rtol=1e-5)
    assert np.isfinite(jax.jit(jax.grad(loss))(0.4, 0.5))
