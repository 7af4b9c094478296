"""Classes and temperatures of samples (lecture 24, 26–29)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from dlcore.generative import autoregressive, decoder, gan, vae
from dlcore.generative.diffusion import samplers, schedule
from dlcore.networks import GatedPixelCNN, PixelCNN
from dlcore.types import Model

KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.25, 1.0, 2.0])
def test_a_temperature_divides_logits_and_multiplies_scales(temperature):
    logits = jnp.broadcast_to(jnp.asarray([0.2, -1.0, 0.9]), (20_000, 3))
    drawn = decoder.categorical(3).sample(KEY, logits, temperature)
    share = np.bincount(np.round(np.asarray(drawn).ravel() * 2).astype(int), minlength=3) / 20_000
    np.testing.assert_allclose(share, scipy.special.softmax(np.asarray(logits[0]) / temperature), atol=0.015)
    binary = decoder.bernoulli().sample(KEY, logits[:, 2:], temperature)
    assert float(binary.mean()) == pytest.approx(scipy.special.expit(0.9 / temperature), abs=0.015)
    normal = decoder.gaussian(0.3).sample(KEY, jnp.full((20_000, 1), 0.7), temperature)
    assert float(normal.std()) == pytest.approx(0.3 * temperature, rel=0.03) and abs(float(normal.mean()) - 0.7) < 0.02
    learned = decoder.gaussian_learned().sample(
        KEY, jnp.broadcast_to(jnp.asarray([0.7, -1.0]), (20_000, 2)), temperature
    )
    assert float(learned.std()) == pytest.approx(np.exp(-1) * temperature, rel=0.03)
    # One logistic in the middle of 1001 levels: its standard deviation is π s/√3 on [−1, 1].
    one = jnp.broadcast_to(jnp.asarray([0.0, 0.0, -4.0]), (20_000, 3))
    logistic = decoder.discretized_logistic(1001).sample(KEY, one, temperature)
    assert float(logistic.std()) == pytest.approx(np.pi * np.exp(-4) * temperature / np.sqrt(3) / 2, rel=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_without_temperature_every_family_draws_its_mode(known):
    draw = lambda family, outputs: family.sample(KEY, jnp.broadcast_to(jnp.asarray(outputs), (50, len(outputs))), 0.0)  # noqa: E731
    if not known:
        draw = lambda family, outputs: jax.jit(  # noqa: E731
            lambda t: family.sample(KEY, jnp.broadcast_to(jnp.asarray(outputs), (50, len(outputs))), t)
        )(0.0)
    logistics = [0.4, 2.0, -1.0, 0.1, -0.5, 0.3, -2.0, -3.0, 0.0]
    for family, outputs, mode in (
        (decoder.categorical(4), [1.0, 3.0, 2.0, 0.5], [1 / 3]),
        (decoder.categorical(3), [-5.0, -4.0, -9.0], [0.5]),
        (decoder.bernoulli(), [0.3, -2.0], [1.0, 0.0]),
        (decoder.gaussian(2.0), [0.7], [0.7]),
        (decoder.gaussian_learned(), [0.7, 1.0], [0.7]),
        (decoder.discretized_logistic(5, 3), logistics, [0.25]),
    ):
        np.testing.assert_allclose(draw(family, outputs), np.broadcast_to(mode, (50, len(mode))), rtol=1e-6)
    with pytest.raises(ValueError, match="temperature must not be negative"):
        decoder.bernoulli().sample(KEY, jnp.ones((1, 1)), -0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", [decoder.categorical(4), decoder.discretized_logistic(4, 2)], ids=["logits", "mixture"]
)
def test_low_temperature_draws_the_modes_of_an_autoregression_by_class(family):
    network = GatedPixelCNN(family.channels, features=4, windows=(3,), classes=3)
    label = jnp.asarray([0, 1, 2, 0, 1, 2])
    params, state = network.model.init(KEY, jnp.zeros((6, 2, 2, 1)), label)
    params = jax.tree.map(lambda p: p + 0.8 * jax.random.normal(jax.random.key(p.size), p.shape), params)

    def draw(key, temperature, label=label):
        shape = (6, 2, 2, 1)
        return autoregressive.sample(key, network, family, params, shape, label, temperature=temperature)

    draw = jax.jit(draw)
    cold = [np.asarray(draw(jax.random.key(k), 1e-5)) for k in range(3)]
    warm = [np.asarray(draw(jax.random.key(k), 1.0)) for k in range(3)]
    np.testing.assert_array_equal(cold[0], cold[1])
    np.testing.assert_array_equal(cold[0][:3], cold[0][3:])
    assert (warm[0] != warm[1]).any()
    hot = [np.asarray(draw(jax.random.key(k), 8.0, y)) for k in range(8) for y in (label, label[::-1])]
    assert any((a != b).any() for a, b in zip(hot[::2], hot[1::2], strict=True))
    naive = autoregressive.sample_naive(
        jax.random.key(1), network.model, family, params, state, (6, 2, 2, 1), label, temperature=0.7
    )
    np.testing.assert_array_equal(naive, draw(jax.random.key(1), 0.7))


@pytest.mark.slow
def test_masked_networks_sample_at_a_temperature_too():
    network = PixelCNN(3, features=6, first=3, windows=())
    params, state = network.model.init(KEY, jnp.zeros((1, 2, 2, 1)))
    params = jax.tree.map(lambda p: p + jax.random.normal(KEY, p.shape), params)
    family = decoder.categorical(3)
    cold = [
        autoregressive.sample_naive(
            jax.random.key(k), network.model, family, params, state, (2, 2, 2, 1), temperature=1e-3
        )
        for k in (0, 1)
    ]
    np.testing.assert_array_equal(*cold)


def identity():
    return Model(lambda key, x: ({}, {}), lambda p, s, x, **_: (x, s))


def test_codes_of_an_autoencoder_and_of_a_gan_are_scaled():
    system = vae.VAE(identity(), identity(), decoder.gaussian(1.0))
    branches = {"encoder": {}, "decoder": {}}
    one, half = (vae.sample(KEY, system, branches, branches, (500, 3), temperature=t) for t in (1.0, 0.5))
    np.testing.assert_allclose(half, 0.5 * one, rtol=1e-6)
    assert float(one.std()) == pytest.approx(1, abs=0.05)
    told = Model(lambda key, z, y: ({}, {}), lambda p, s, z, y, **_: (z + 10 * y[:, None], s))
    system = gan.GAN(told, told, 3, conditional=True)
    branches = {"generator": {}, "discriminator": {}}
    plain = gan.sample(KEY, system, branches, branches, 40, label=0)
    np.testing.assert_allclose(
        gan.sample(KEY, system, branches, branches, 40, label=0, temperature=0.3), 0.3 * plain, rtol=1e-5
    )
    label = jnp.arange(40) % 4
    np.testing.assert_allclose(
        gan.sample(KEY, system, branches, branches, 40, label=label), plain + 10 * label[:, None], rtol=1e-5
    )
    with pytest.raises(ValueError, match="pass label="):
        gan.sample(KEY, system, branches, branches, 40)


@pytest.mark.sampled
@pytest.mark.parametrize("rule", ["ancestral", "ddim", "half", "dpm"])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_all_noise_of_a_diffusion_is_scaled(rule, backend, monkeypatch):
    """With x̂_0 = 0 the last step gives 0; before it samples are Gaussian with the temperature as their scale."""
    short = schedule.respace(schedule.cosine(200), 8)
    made = {"half": lambda s: samplers.ddim(s, 0.5), **samplers.RULES}[rule](short)
    sample = samplers.make_sampler(lambda x, t: jnp.zeros_like(x), short, made, kind="x0", keep=True)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    one, low = (np.asarray(sample(KEY, (3000, 1), temperature=t)) for t in (1.0, 0.4))
    np.testing.assert_allclose(low, 0.4 * one, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one[:-1].std((1, 2)), short.noise[:0:-1], rtol=0.05)
    np.testing.assert_array_equal(sample(KEY, (3000, 1)), one)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddims_noise_is_eta_times_that_of_the_ancestral_sampler_traced_or_not(eta):
    short = schedule.respace(schedule.linear(100), 12)
    known = samplers.ddim(short, eta)
    for found, expected in zip(jax.jit(lambda eta: samplers.ddim(short, eta))(eta), known, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(known.noise, eta * np.sqrt(short.posterior_variance), rtol=1e-12)
    left = np.append(0.0, np.sqrt(short.noise[:-1] ** 2 - known.noise[1:] ** 2) / short.noise[1:])
    np.testing.assert_allclose(known.noisy[1:], left[1:], rtol=1e-7, atol=1e-9)
