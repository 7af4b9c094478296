"""Logistics shared by the colours of a pixel: sums to 1, the formula in float64, draws, order of colours."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.evaluation import Nats, summary
from dlcore.generative import autoregressive, decoder, vae
from dlcore.generative.colour_mixture import ColourMixture, log_mass, sample, split
from dlcore.networks import GatedPixelCNN, PixelCNN
from dlcore.nn import Dense
from dlcore.types import Model

RNG = np.random.default_rng(0)
M = 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mass(level, mean, log_scale, levels):
    """Of one logistic: the interval around the level, the outermost ones open."""
    x, half = 2 * level / (levels - 1) - 1, 1 / (levels - 1)
    upper = 1.0 if level == levels - 1 else sigmoid((x + half - mean) * np.exp(-log_scale))
    lower = 0.0 if level == 0 else sigmoid((x - half - mean) * np.exp(-log_scale))
    return upper - lower


def by_hand(outputs, pixel, levels):
    """−log p(r, g, b) of Salimans et al. 2017, section 2.2, of one pixel, components one by one, in float64."""
    outputs, total = np.asarray(outputs, np.float64), 0.0
    m = len(outputs) // 10
    weights = np.exp(outputs[:m]) / np.exp(outputs[:m]).sum()
    red, green, blue = outputs[m : 4 * m], outputs[4 * m : 7 * m], outputs[7 * m :]
    r, g, _ = (2 * level / (levels - 1) - 1 for level in pixel)
    for i in range(m):
        alpha, beta, gamma = (np.tanh(colour[2 * m + i]) for colour in (red, green, blue))
        means = red[i], green[i] + alpha * r, blue[i] + beta * r + gamma * g
        scales = (np.clip(colour[m + i], -7, 5) for colour in (red, green, blue))
        one = [mass(k, mu, s, levels) for k, mu, s in zip(pixel, means, scales, strict=True)]
        total += weights[i] * math.prod(one)
    return -math.log(total)


def outputs_of(*shape, m=M):
    return (RNG.normal(size=(*shape, 10 * m)) - np.repeat([0, 1.0], [m, 9 * m])).astype(np.float32)


def every_pixel(levels, colours=3):
    return np.array(list(itertools.product(range(levels), repeat=colours)))


@pytest.mark.slow
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_it_is_the_formula(levels):
    family, outputs = decoder.colour_mixture(levels, M), outputs_of(40)
    pixels = RNG.integers(levels, size=(40, 3))
    pixels[:4] = [[0, 0, 0], [levels - 1] * 3, [0, levels - 1, 0], [levels - 1, 0, levels - 1]]
    found = family.nll(jnp.asarray(outputs), jnp.asarray(pixels / (levels - 1), jnp.float32)).sum(-1)
    expected = [by_hand(o, p, levels) for o, p in zip(outputs, pixels, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [2, 3, 7])
def test_all_pixels_together_have_probability_one(levels):
    family, pixels = decoder.colour_mixture(levels, M), every_pixel(levels)
    outputs = jnp.broadcast_to(outputs_of(), (len(pixels), 10 * M))
    nats = family.nll(outputs, jnp.asarray(pixels / (levels - 1), jnp.float32)).sum(-1)
    assert float(jnp.exp(-nats).sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_each_colour_given_those_before_has_probability_one_over_256_levels():
    """So that the 256³ pixels have it: −log p of a colour depends on no later colour."""
    family, outputs = decoder.colour_mixture(256, M), outputs_of(6)
    before = RNG.integers(256, size=(6, 3))
    for colour in range(3):
        pixels = np.repeat(before[None], 256, 0)
        pixels[:, :, colour] = np.arange(256)[:, None]
        x = jnp.asarray(pixels / 255, jnp.float32)
        nats = family.nll(jnp.broadcast_to(outputs, (256, *outputs.shape)), x)
        np.testing.assert_allclose(jnp.exp(-nats[..., colour]).sum(0), 1, rtol=1e-4)
        np.testing.assert_array_equal(nats[..., :colour], np.broadcast_to(nats[:1, :, :colour], (256, 6, colour)))


def test_green_follows_red_and_blue_follows_both():
    """One narrow component: g = r/2 and b = r/4 − g/8 on [−1, 1], by coefficients of the three pairs."""
    mixture = ColourMixture(
        jnp.zeros(1), jnp.zeros((3, 1)), jnp.full((3, 1), -6.0), jnp.asarray([[0.5], [0.25], [-0.125]])
    )
    mixture = mixture._replace(mean=mixture.mean.at[0].set(0.8))
    drawn = 2 * np.asarray(sample(jax.random.key(0), mixture, 2049)) / 2048 - 1
    np.testing.assert_allclose(drawn, [0.8, 0.4, 0.15], atol=0.03)


def test_the_layout_of_the_outputs():
    """Logits, then for every colour in turn means, log-scales and one row of coefficients."""
    parts = split(jnp.arange(20.0) / 10, 3)
    np.testing.assert_allclose(parts.logits, [0, 0.1])
    np.testing.assert_allclose(parts.mean, [[0.2, 0.3], [0.8, 0.9], [1.4, 1.5]])
    np.testing.assert_allclose(parts.log_scale, [[0.4, 0.5], [1.0, 1.1], [1.6, 1.7]])
    np.testing.assert_allclose(parts.coefficients, np.tanh([[0.6, 0.7], [1.2, 1.3], [1.8, 1.9]]), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("levels", "colours"), [(3, 3), (4, 2), (9, 1), (2, 4)])
def test_draws_have_their_probabilities(levels, colours):
    family, pixels = decoder.colour_mixture(levels, M, colours), every_pixel(levels, colours)
    outputs = jnp.asarray(RNG.normal(size=family.per_pixel(colours)), jnp.float32)
    x = jnp.asarray(pixels / (levels - 1), jnp.float32)
    p = np.exp(-np.asarray(family.nll(jnp.broadcast_to(outputs, (len(x), len(outputs))), x).sum(-1), np.float64))
    assert p.sum() == pytest.approx(1, abs=1e-5)
    draws = family.sample(jax.random.key(1), jnp.broadcast_to(outputs, (40_000, len(outputs))))
    code = np.rint(np.asarray(draws) * (levels - 1)).astype(int) @ levels ** np.arange(colours)[::-1]
    share = np.bincount(code, minlength=len(p)) / 40_000
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 40_000) + 1e-6).all()


@pytest.mark.slow
def test_of_one_colour_it_is_the_mixture_of_that_colour():
    plain, shared = decoder.discretized_logistic(17, M), decoder.colour_mixture(17, M, 1)
    outputs, x = jnp.asarray(RNG.normal(size=(5, 3 * M)), jnp.float32), jnp.asarray(RNG.integers(17, size=(5, 1)) / 16)
    np.testing.assert_allclose(shared.nll(outputs, x), plain.nll(outputs, x), rtol=1e-5)
    np.testing.assert_allclose(shared.mean(outputs), plain.mean(outputs), rtol=1e-5)


@pytest.mark.slow
def test_the_mean_is_that_of_all_pixels_where_no_edge_is_near():
    levels, outputs = 31, np.zeros(10 * M, np.float32)
    outputs[:M] = RNG.normal(size=M)
    rest = outputs[M:].reshape(3, 3, M)
    rest[:, 0], rest[:, 1], rest[:, 2] = RNG.uniform(-0.2, 0.2, (3, M)), -3.0, RNG.normal(size=(3, M))
    pixels = every_pixel(levels)
    family, x = decoder.colour_mixture(levels, M), jnp.asarray(pixels / (levels - 1), jnp.float32)
    p = np.exp(-np.asarray(family.nll(jnp.broadcast_to(outputs, (len(x), 10 * M)), x).sum(-1), np.float64))
    np.testing.assert_allclose(family.mean(jnp.asarray(outputs)), p @ np.asarray(x), atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e4, -1e4, 1e9])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_finite_at_extremes(scale, level):
    family, x = decoder.colour_mixture(256, M), jnp.full((1, 3), level / 255)
    outputs = jnp.asarray(scale * np.sign(outputs_of(1)))
    value, gradient = jax.value_and_grad(lambda a: family.nll(a, x).sum())(outputs)
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.slow
def test_a_colder_draw_is_nearer_to_the_mode():
    family, outputs = decoder.colour_mixture(256, M), jnp.broadcast_to(outputs_of(), (4000, 10 * M))
    deviations = [float(family.sample(jax.random.key(0), outputs, t).std(0).mean()) for t in (1.0, 0.5, 0.1)]
    assert deviations[0] > deviations[1] > deviations[2]


@pytest.mark.slow
def test_bad_arguments():
    family = decoder.colour_mixture(5, M)
    with pytest.raises(ValueError, match=r"outputs has shape \(2, 39\); it must be \(2, 40\), 40 per pixel of x"):
        family.nll(jnp.zeros((2, 39)), jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="x has 2 colours; it was made for 3"):
        family.nll(jnp.zeros((2, 40)), jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match="39 outputs; 3 colours need a multiple of 10"):
        family.mean(jnp.zeros((2, 39)))
    with pytest.raises(ValueError, match="levels must be a whole number of at least 2, got 1"):
        decoder.colour_mixture(1, M)
    with pytest.raises(ValueError, match="level has shape"):
        log_mass(jnp.zeros((2, 1, 3), jnp.int32), split(jnp.zeros((2, 40)), 3), 5)
    assert np.isnan(family.nll(jnp.zeros((1, 40)), jnp.asarray([[0.5, 1.5, 0.5]]))).any()


# In a causal network: whole pixels are masked, and a pixel is drawn at once.

NETWORKS = {
    "gated": lambda family: GatedPixelCNN(family.channels, features=6, windows=(3, 3)),
    "masked": lambda family: PixelCNN(family.channels, features=6, first=3, windows=(3,)),
}


def trained_like(network, shape):
    params, state = network.model.init(jax.random.key(0), jnp.zeros((1, *shape)))
    return jax.tree.map(lambda p: p + 0.2 * jax.random.normal(jax.random.key(p.size), p.shape), params), state


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_sees_no_colour_of_the_current_pixel(name):
    network = NETWORKS[name](decoder.colour_mixture(3, 1))
    params, state = trained_like(network, (2, 2, 3))
    of_pixel = lambda x: network.model.apply(params, state, x)[0][0, 1, 0]  # noqa: E731
    x = jnp.asarray(RNG.normal(size=(1, 2, 2, 3)), jnp.float32)
    seen = np.abs(jax.jacobian(of_pixel)(x)[:, 0]).sum(0)
    assert (seen[1] == 0).all() and (seen[0] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_probabilities_of_all_images_sum_to_one(name):
    family = decoder.colour_mixture(2, 2)
    network = NETWORKS[name](family)
    params, state = trained_like(network, (2, 1, 3))
    images = jnp.asarray(every_pixel(2, 6).reshape(64, 2, 1, 3), jnp.float32)
    nats = autoregressive.nll(network.model, family, params, state, images)
    assert float(jnp.exp(-nats).sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_cached_sampling_is_naive_sampling_and_completion_keeps_what_is_known():
    family = decoder.colour_mixture(9, 2)
    network = NETWORKS["gated"](family)
    params, state = trained_like(network, (3, 2, 3))
    shape, key = (2, 3, 2, 3), jax.random.key(7)
    naive = autoregressive.sample_naive(key, network.model, family, params, state, shape)
    cached = jax.jit(lambda key: autoregressive.sample(key, network, family, params, shape))(key)
    np.testing.assert_array_equal(naive, cached)
    assert len(np.unique(np.asarray(naive))) > 3
    upper = jnp.arange(3)[:, None] < jnp.full((1, 2), 1)
    completed = autoregressive.sample(key, network, family, params, shape, known=1 - naive, where=upper)
    np.testing.assert_array_equal(completed[:, :1], 1 - naive[:, :1])


@pytest.mark.slow
def test_bits_per_dim_are_those_of_the_mean_of_log2_p_over_sub_pixels():
    """A network that always says the same, so that every pixel has the probability of the formula."""
    family, outputs = decoder.colour_mixture(5, M), outputs_of()
    constant = Model(
        lambda key, x: ({}, {}),
        lambda params, state, x, **options: (jnp.broadcast_to(outputs, (*x.shape[:-1], 10 * M)), state),
    )
    pixels = RNG.integers(5, size=(7, 2, 3, 3))
    nats = autoregressive.nll(constant, family, {}, {}, jnp.asarray(pixels / 4, jnp.float32))
    found = summary(Nats.of(nats, jnp.ones(7, bool)), 2 * 3 * 3)
    expected = np.mean([by_hand(outputs, pixel, 5) for pixel in pixels.reshape(-1, 3)]) / 3 / math.log(2)
    assert found["bits_per_dim"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_as_the_likelihood_of_a_decoder():
    family = decoder.colour_mixture(5, 2)
    system = vae.VAE(Dense(4), Dense(20), family)
    x = jnp.asarray(RNG.integers(5, size=(6, 3)) / 4, jnp.float32)
    params, state = vae.init(jax.random.key(0), system, x)
    loss, _ = vae.negative_elbo(system)(params, state, {"image": x}, key=jax.random.key(1), train=True)
    assert np.isfinite(loss)
    z = jnp.zeros((6, 2))
    assert vae.sample_outputs(system, params, state, z).shape == (6, 3)
    assert vae.sample_outputs(system, params, state, z, key=jax.random.key(2)).shape == (6, 3)
