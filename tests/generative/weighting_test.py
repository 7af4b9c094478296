"""Weights of the times in the objective of a diffusion (lecture 29.3; Choi et al. 2022)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative.diffusion import objective, process, schedule, weighting
from dlcore.types import Model

BETAS = np.array([0.1, 0.2, 0.5])
X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
SILENT = Model(lambda key, *x: ({}, {}), lambda params, state, x, t, **options: (jnp.zeros_like(x), state))


@pytest.mark.parametrize(("k", "gamma"), [(1.0, 1.0), (1.0, 0.5), (2.0, 0.5), (0.25, 2.0), (1.0, 0.0)])
def test_p2_by_hand(k, gamma):
    """ᾱ = 0.9, 0.72, 0.36, so that SNR = 9, 0.72/0.28, 0.5625."""
    found = weighting.p2(schedule.from_betas(BETAS), k=k, gamma=gamma)
    snr = [0.9 / 0.1, 0.72 / 0.28, 0.36 / 0.64]
    np.testing.assert_allclose(found, [0.0, *(1 / (k + s) ** gamma for s in snr)], rtol=1e-12)


def test_p2_with_k_1_and_gamma_1_is_the_power_of_the_noise():
    """1/(1 + ᾱ/(1 − ᾱ)) = 1 − ᾱ."""
    full = schedule.cosine(50)
    np.testing.assert_allclose(weighting.by_name("p2")(full)[1:], 1 - full.alpha_bar[1:], rtol=1e-9)


def losses_of(kind="eps", **settings):
    """The loss, and the plain error and the time of each example, of a network that predicts 0."""
    full, key = schedule.linear(20), jax.random.key(3)
    loss, aux = objective.simple(SILENT, full, kind=kind, data="x", **settings)({}, {}, {"x": X}, key=key, train=True)
    keys = jax.random.split(key, 4)
    t = np.asarray(objective.draw_times(keys[0], 20, len(X)))
    target = process.target(full, kind, X, jnp.asarray(t), jax.random.normal(keys[1], X.shape))
    assert float(aux.metrics["loss"].value()) == pytest.approx(float(loss), rel=1e-6)
    return float(loss), np.square(np.asarray(target, np.float64)).mean(1), full.alpha_bar[t] / (1 - full.alpha_bar[t])


@pytest.mark.parametrize("kind", process.KINDS)
def test_the_objective_multiplies_the_error_of_each_example(kind):
    plain, errors, snr = losses_of(kind)
    assert plain == pytest.approx(errors.mean(), rel=1e-5)
    assert losses_of(kind, weighting="uniform")[0] == plain
    assert losses_of(kind, weighting="p2")[0] == pytest.approx((errors / (1 + snr)).mean(), rel=1e-5)
    half = functools.partial(weighting.p2, k=2.0, gamma=0.5)
    assert losses_of(kind, weighting=half)[0] == pytest.approx((errors / np.sqrt(2 + snr)).mean(), rel=1e-5)


def test_both_settings_may_be_traced():
    loss = lambda k, gamma: objective.simple(  # noqa: E731
        SILENT, schedule.linear(20), data="x", weighting=functools.partial(weighting.p2, k=k, gamma=gamma)
    )({}, {}, {"x": X}, key=jax.random.key(3), train=True)[0]
    np.testing.assert_allclose(jax.jit(loss)(2.0, 0.5), loss(2.0, 0.5), rtol=1e-5)
    slope, step = jax.jit(jax.grad(loss, (0, 1)))(2.0, 0.5), 1e-2
    by_k = (loss(2.0 + step, 0.5) - loss(2.0 - step, 0.5)) / (2 * step)
    by_gamma = (loss(2.0, 0.5 + step) - loss(2.0, 0.5 - step)) / (2 * step)
    np.testing.assert_allclose(slope, (by_k, by_gamma), rtol=2e-2)


def test_bad_arguments():
    with pytest.raises(ValueError, match="unknown weighting 'p3'; did you mean 'p2'"):
        objective.simple(SILENT, schedule.linear(20), weighting="p3")
    with pytest.raises(ValueError, match="k must be positive and finite, got 0"):
        weighting.p2(schedule.linear(20), k=0)
    with pytest.raises(ValueError, match="gamma must be finite and not negative, got -1"):
        weighting.p2(schedule.linear(20), gamma=-1.0)
