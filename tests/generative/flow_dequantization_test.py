"""Learned noise of dequantisation: a density, and a bound of log P(x) that it tightens (lecture 28)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from dlcore.generative.flow import (
    Affine,
    AffineCoupling,
    ConditionalAffine,
    Logit,
    alternating,
    bound,
    chain,
    density,
    dequantize,
    uniform,
    variational,
)
from dlcore.networks import ConvConditioner, MLPConditioner

LEVELS = 4
# One pixel under logit(y) ~ N(0, 1/4²): the mass of each of its cells is known.
PIXEL = chain(logit=Logit(1e-9), scale=Affine(4.0))
EDGES = scipy.special.logit(np.arange(LEVELS + 1) / LEVELS)
EXACT = -np.log(np.diff(scipy.stats.norm.cdf(4 * EDGES)))


def noise():
    return variational(ConditionalAffine(MLPConditioner((16,), 2, activation="tanh")), LEVELS)


def moved(params, size=0.5):
    return jax.tree.map(lambda p: p + size * jax.random.normal(jax.random.key(p.size), p.shape), params)


@pytest.mark.slow
def test_it_starts_as_uniform_noise():
    x = jax.random.randint(jax.random.key(0), (500, 4, 4, 1), 0, LEVELS)
    couple = lambda shape, mask, flip: AffineCoupling(  # noqa: E731
        ConvConditioner(3, 2, blocks=0, conditional=True), mask=mask, flip=flip, conditional=True
    )
    learned = variational(alternating((4, 4, 1), couple, 2, "checkerboard"), LEVELS)
    params = learned.init(jax.random.key(1), x)
    u, log_q = jax.jit(learned.draw)(jax.random.key(2), params, x)
    assert u.shape == x.shape and log_q.shape == (500,) and float(jnp.abs(log_q).max()) < 1.0
    assert scipy.stats.kstest(np.asarray(u).ravel(), "uniform").pvalue > 1e-3
    # An act norm of 500 images is within their error of the identity.
    assert float(jnp.abs(log_q.mean())) < 0.2


@pytest.mark.slow
def test_the_density_of_the_noise_integrates_to_1_in_every_cell():
    learned = noise()
    x = jnp.repeat(jnp.arange(LEVELS), 50_000)[:, None]
    params = moved(learned.init(jax.random.key(0), x[:5]))
    u, log_q = (np.asarray(part).reshape(LEVELS, -1) for part in jax.jit(learned.draw)(jax.random.key(1), params, x))
    order = u.argsort(1)
    u, q = np.take_along_axis(u, order, 1), np.exp(np.take_along_axis(log_q, order, 1))
    np.testing.assert_allclose(np.trapezoid(q, u, axis=1), 1, atol=0.02)
    assert np.abs(np.mean(q, 1) - 1).min() > 0.01  # It is not the uniform one.


@pytest.mark.slow
@pytest.mark.parametrize("make", [uniform, noise])
def test_the_bound_lies_above_the_cell_and_many_draws_reach_it(make):
    learned = make()
    x = jnp.repeat(jnp.arange(LEVELS), 20_000)[:, None]
    params = moved(learned.init(jax.random.key(0), x[:5]), 0.3)
    log_density = lambda y: density.log_prob(PIXEL, {}, y)  # noqa: E731
    nats = np.asarray(bound(jax.random.key(1), learned, params, log_density, x, LEVELS)).reshape(LEVELS, -1)
    inner = slice(1, 3)  # The outer cells have nearly no mass, and so much variance.
    assert (nats.mean(1) > EXACT).all()
    np.testing.assert_allclose(-np.log(np.exp(-nats).mean(1))[inner], EXACT[inner], atol=0.05)
    few = x.reshape(LEVELS, -1)[:, :500].reshape(-1, 1)
    better = bound(jax.random.key(2), learned, params, log_density, few, LEVELS, samples=16)
    between = np.asarray(better).reshape(LEVELS, -1).mean(1)
    assert (between < nats.mean(1)).all() and (between > EXACT - 0.05).all()


@pytest.mark.slow
def test_learning_the_noise_tightens_the_bound():
    learned = noise()
    x = jnp.tile(jnp.arange(1, 3), 128)[:, None]
    objective = density.negative_log_likelihood(PIXEL, levels=LEVELS, dequantizer=learned)
    params = {"dequantizer": learned.init(jax.random.key(0), x)}
    tx = optax.adam(3e-2)

    @jax.jit
    def step(carry, key):
        params, memory = carry
        (loss, _), grads = jax.value_and_grad(objective, has_aux=True)(params, {}, {"image": x}, key=key, train=True)
        updates, memory = tx.update(grads, memory)
        return (optax.apply_updates(params, updates), memory), loss

    keys = jax.random.split(jax.random.key(1), 300)
    _, losses = jax.lax.scan(step, (params, tx.init(params)), keys)
    exact = EXACT[1:3].mean()
    plain = density.negative_log_likelihood(PIXEL, levels=LEVELS)
    untold = np.mean([plain({}, {}, {"image": x}, key=key, train=True)[0] for key in keys[:20]])
    assert float(losses[0]) == pytest.approx(untold, rel=0.15)  # The start is uniform noise.
    assert exact < float(losses[-50:].mean()) < exact + 0.2 * (untold - exact)


def test_refusals():
    with pytest.raises(ValueError, match="must be conditional"):
        variational(Affine(2.0), 4)
    with pytest.raises(ValueError, match="samples"):
        bound(jax.random.key(0), uniform(), {}, lambda y: y[:, 0], jnp.zeros((2, 1), jnp.int32), 4, samples=0)


@pytest.mark.slow
def test_draws_stay_in_their_cell():
    learned = noise()
    x = jnp.tile(jnp.arange(LEVELS), 200)[:, None]
    params = jax.tree.map(lambda p: p + 3.0, learned.init(jax.random.key(0), x))
    u, _ = learned.draw(jax.random.key(1), params, x)
    y = dequantize(x, u, LEVELS)
    assert (jnp.floor(y * LEVELS) <= x + 1).all() and float(y.max()) < 1 and math.isfinite(float(u.sum()))
