"""The variational autoencoder against a linear-Gaussian one, whose log p(x) is known (lecture 24)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from dlcore.generative import vae
from dlcore.generative.decoder import bernoulli, gaussian
from dlcore.nn import Dense
from dlcore.types import Model

D, LATENT, STD = 6, 2, 0.4


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def linear_gaussian(scale=1.0):
    """p(x|z) = N(Wz + b, σ²I) with orthogonal columns, whose posterior is diagonal; `scale` spoils its deviation."""
    rng = np.random.default_rng(0)
    W = np.linalg.qr(rng.normal(size=(D, LATENT)))[0] * np.array([1.5, 0.7])
    b = rng.normal(size=D)
    precision = np.diag(W.T @ W) / STD**2 + 1

    def encode(params, state, x, *, train=False, key=None):
        mean = (x - b) @ W / STD**2 / precision
        log_std = jnp.broadcast_to(-0.5 * np.log(precision) + math.log(scale), mean.shape)
        return jnp.concatenate([mean, log_std], -1), state

    def decode(params, state, z, *, train=False, key=None):
        return z @ W.T + b, state

    system = vae.VAE(*(Model(lambda key, x: ({}, {}), f) for f in (encode, decode)), gaussian(STD))
    exact = scipy.stats.multivariate_normal(b, W @ W.T + STD**2 * np.eye(D))
    x = exact.rvs(50, random_state=1)
    return system, jnp.asarray(x), exact.logpdf(x)


EMPTY = {"encoder": {}, "decoder": {}}


def noise(k, b, seed=0):
    return jax.random.normal(jax.random.key(seed), (k, b, LATENT), jnp.float64)


@pytest.mark.slow
def test_at_the_true_posterior_every_weight_is_the_evidence(float64):
    system, x, exact = linear_gaussian()
    log_w = vae.log_weights(system, EMPTY, EMPTY, x, noise(3, 50))
    np.testing.assert_allclose(log_w, np.broadcast_to(exact, (3, 50)), rtol=1e-10)


@pytest.mark.slow
def test_bounds_are_ordered_below_the_evidence(float64):
    system, x, exact = linear_gaussian(scale=1.6)
    log_w = vae.log_weights(system, EMPTY, EMPTY, x, noise(20_000, 50))
    means = [float(vae.iwae_bound(log_w.reshape(k, -1, 50)).mean()) for k in (1, 2, 5, 20, 100)]
    assert means == sorted(means) and means[0] < means[-1] < exact.mean()
    assert means[-1] == pytest.approx(exact.mean(), abs=0.01)
    assert means[0] == pytest.approx(float(log_w.mean()))


@pytest.mark.slow
def test_both_forms_of_the_elbo_agree(float64):
    system, x, _ = linear_gaussian(scale=1.6)
    draws = noise(20_000, 50)
    terms = vae.elbo_terms(system, EMPTY, EMPTY, x, draws)
    analytic = -terms.reconstruction.mean(0) - terms.kl.sum(-1)
    log_w = vae.log_weights(system, EMPTY, EMPTY, x, draws)
    assert (np.abs(analytic - log_w.mean(0)) < 5 * log_w.std(0) / math.sqrt(20_000) + 1e-12).all()


@pytest.mark.slow
def test_held_out_likelihood_in_chunks_and_its_error(float64):
    system, x, exact = linear_gaussian(scale=1.6)
    keys = jax.random.split(jax.random.key(3), 50)
    bound, error = vae.log_likelihood(system, EMPTY, EMPTY, x, keys, samples=2000, chunk=100)
    assert (np.abs(bound - exact) < 5 * error).all()
    z = (bound - exact) / error
    assert 0.5 < float(z.std()) < 1.6
    tight, none = linear_gaussian()[0], vae.log_likelihood
    np.testing.assert_allclose(none(tight, EMPTY, EMPTY, x, keys, samples=4, chunk=2)[1], 0, atol=1e-6)
    with pytest.raises(ValueError, match="must divide"):
        vae.log_likelihood(system, EMPTY, EMPTY, x, keys, samples=10, chunk=3)


@pytest.mark.slow
def test_held_out_likelihood_does_not_depend_on_the_batch(float64):
    system, x, _ = linear_gaussian(scale=1.6)
    keys = jax.random.split(jax.random.key(3), 50)
    whole = vae.log_likelihood(system, EMPTY, EMPTY, x, keys, samples=20, chunk=10)[0]
    part = vae.log_likelihood(system, EMPTY, EMPTY, x[10:13], keys[10:13], samples=20, chunk=10)[0]
    np.testing.assert_allclose(whole[10:13], part, rtol=1e-12)


def test_pathwise_gradient_is_exact_and_quieter_than_the_score(float64):
    # d/dμ E[(z − 3)²] = 2(μ − 3) and d/dlog σ of it is 2σ², for z ~ N(μ, σ²).
    mean, log_std = jnp.float64(0.5), jnp.float64(-0.3)
    keys = jax.random.split(jax.random.key(0), 50_000)

    def pathwise(key):
        return jax.grad(lambda m, s: (vae.reparameterize(key, m, s) - 3) ** 2, (0, 1))(mean, log_std)

    def score(key):
        z = jax.lax.stop_gradient(vae.reparameterize(key, mean, log_std))
        return (z - 3) ** 2 * jax.grad(lambda m: jax.scipy.stats.norm.logpdf(z, m, jnp.exp(log_std)))(mean)

    by_path, by_score = jax.vmap(pathwise)(keys), jax.vmap(score)(keys)
    for values, expected in ((by_path[0], -5.0), (by_path[1], 2 * math.exp(-0.6)), (by_score, -5.0)):
        assert abs(float(values.mean()) - expected) < 5 * float(values.std()) / math.sqrt(50_000)
    assert float(by_path[0].var()) < 0.2 * float(by_score.var())


@pytest.mark.parametrize(("sampler", "name"), [(jax.random.laplace, "laplace"), (jax.random.logistic, "logistic")])
def test_reparametrised_draws_have_their_distribution(sampler, name):
    draws = vae.reparameterize(jax.random.key(0), jnp.full(4000, 2.0), jnp.full(4000, -1.0), sampler)
    fit = getattr(scipy.stats, name)(2.0, math.exp(-1))
    assert scipy.stats.kstest(np.asarray(draws), fit.cdf).pvalue > 1e-3


def test_gumbel_softmax_is_categorical_when_cold_and_on_the_simplex():
    logits = jnp.log(jnp.asarray([0.2, 0.5, 0.3]))
    draws = vae.gumbel_softmax(jax.random.key(0), jnp.broadcast_to(logits, (20_000, 3)), 0.5)
    np.testing.assert_allclose(draws.sum(-1), 1, rtol=1e-5)
    shares = np.bincount(draws.argmax(-1), minlength=3)
    assert scipy.stats.chisquare(shares, 20_000 * np.array([0.2, 0.5, 0.3])).pvalue > 1e-3
    cold = vae.gumbel_softmax(jax.random.key(0), jnp.broadcast_to(logits, (1000, 3)), 1e-3)
    assert float(jnp.mean(cold.max(-1) > 0.99)) > 0.97
    with pytest.raises(ValueError, match="temperature"):
        vae.gumbel_softmax(jax.random.key(0), logits, 0.0)


def trainable(**options):
    system = vae.VAE(Dense(2 * LATENT), Dense(D), bernoulli())
    x = jax.random.bernoulli(jax.random.key(5), 0.4, (8, D)).astype(jnp.float32)
    params, state = vae.init(jax.random.key(0), system, x)
    objective = vae.negative_elbo(system, **options)
    return objective, system, params, state, {"image": x}


def loss_of(key=0, step=0, **options):
    objective, _, params, state, batch = trainable(**options)
    step = None if step is None else jnp.int32(step)
    loss, aux = objective(params, state, batch, key=jax.random.key(key), train=True, step=step)
    return float(loss), {name: float(mean.value()) for name, mean in aux.metrics.items()}


@pytest.mark.slow
def test_objective_is_the_sum_of_its_terms_and_beta_scales_the_divergence():
    plain, metrics = loss_of()
    assert plain == pytest.approx(metrics["reconstruction_nats"] + metrics["kl_nats"], rel=1e-6)
    assert loss_of(beta=3.0)[0] == pytest.approx(plain + 2 * metrics["kl_nats"], rel=1e-6)
    assert loss_of(beta=3.0)[1]["elbo_nats"] == pytest.approx(-plain, rel=1e-6), "a lower bound of log p(x)"


@pytest.mark.slow
def test_warm_up_rises_to_beta_with_the_training_steps():
    first, metrics = loss_of(warmup_steps=4)
    assert first == pytest.approx(metrics["reconstruction_nats"] + metrics["kl_nats"] / 4, rel=1e-6)
    assert loss_of(warmup_steps=4, step=3)[0] == pytest.approx(loss_of()[0], rel=1e-6)
    assert loss_of(warmup_steps=4, step=None)[0] == pytest.approx(loss_of()[0], rel=1e-6)
    assert loss_of(warmup_steps=4, step=30)[0] == pytest.approx(loss_of()[0], rel=1e-6)


@pytest.mark.slow
def test_free_bits_leave_small_divergences_alone():
    objective, system, params, state, batch = trainable(free_bits=100.0)
    value, metrics = loss_of(free_bits=100.0)
    assert value == pytest.approx(metrics["reconstruction_nats"] + 100.0 * LATENT, rel=1e-6)
    gradient = jax.grad(lambda p: objective(p, state, batch, key=jax.random.key(0), train=True)[0])(params)
    free = vae.negative_elbo(system, beta=0.0)
    expected = jax.grad(lambda p: free(p, state, batch, key=jax.random.key(0), train=True)[0])(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, expected)
    assert loss_of(free_bits=1e-9)[0] == pytest.approx(loss_of()[0], rel=1e-6)
    with pytest.raises(ValueError, match="analytic_kl"):
        vae.negative_elbo(system, free_bits=1.0, analytic_kl=False)


def test_monte_carlo_divergence_agrees_on_average():
    exact = loss_of(samples=1)[1]["kl_nats"]
    assert loss_of(samples=20_000, analytic_kl=False)[1]["kl_nats"] == pytest.approx(exact, rel=0.03)


@pytest.mark.slow
def test_iwae_of_one_draw_is_the_elbo_and_more_draws_are_tighter():
    _, system, params, state, batch = trainable()

    def loss(k):
        keys = jax.random.split(jax.random.key(1), 200)
        objective = vae.negative_iwae(system, samples=k)
        return float(jax.vmap(lambda key: objective(params, state, batch, key=key, train=True)[0])(keys).mean())

    one = vae.negative_iwae(system, samples=1)(params, state, batch, key=jax.random.key(4), train=True)[0]
    assert float(one) == pytest.approx(loss_of(4, analytic_kl=False)[0], rel=1e-6)
    assert loss(1) > loss(5) > loss(50)


def test_active_units_are_those_whose_mean_varies():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(400, 3)).astype(np.float32) * np.array([1.0, 0.05, 0.5], np.float32) + 7
    where = np.ones(400, bool)
    sums = vae.activity(jnp.asarray(mean), jnp.asarray(where))
    assert int(vae.active_units(sums)) == 2


def test_free_bits_count_the_mean_over_the_batch_of_each_dimension():
    """Σ_j max(λ, mean_b KL_bj): with λ between the KLs of single images that is not the mean of Σ_j max(λ, KL_bj)."""
    _, system, params, state, batch = trainable()
    mean, log_std, _ = vae.encode(system, params, state, batch["image"])
    mean, log_std = np.asarray(mean, np.float64), np.asarray(log_std, np.float64)
    kl = 0.5 * (np.exp(2 * log_std) + mean**2 - 1) - log_std
    limit = float(np.median(kl))
    expected = np.maximum(kl.mean(0), limit).sum()
    assert abs(np.maximum(kl, limit).sum(1).mean() - expected) > 1e-2
    value, metrics = loss_of(free_bits=limit)
    assert value - metrics["reconstruction_nats"] == pytest.approx(expected, rel=1e-4)


def test_activity_counts_marked_images_alone():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(40, 3))
    where = rng.random(40) < 0.6
    mean[~where] = np.nan
    sums = vae.activity(jnp.asarray(mean, jnp.float32), jnp.asarray(where))
    m = mean[where]
    for found, expected in zip(sums, (m.sum(0), (m**2).sum(0), where.sum()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
