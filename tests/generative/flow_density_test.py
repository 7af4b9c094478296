"""Densities of flows: they integrate to 1, samples follow them, and the constant of dequantisation (lecture 28)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dlcore.evaluation import bits_per_dim
from dlcore.generative.flow import (
    ActNorm,
    Affine,
    Glow,
    InvertibleConv,
    Logit,
    RealNVP,
    affine,
    chain,
    density,
    dequantize,
    discrete_nats,
    quantize,
)
from dlcore.networks import MLPConditioner
from dlcore.report.density import density_and_samples, grid, square
from dlcore.types import Bijector


def network(shape, outputs):
    return MLPConditioner((16,), outputs, activation="tanh")


def moved(bijector, x, size=0.3):
    params = bijector.init(jax.random.key(0), x)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [jax.random.normal(k, p.shape, x.dtype) for k, p in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, [p.astype(x.dtype) + size * n for p, n in zip(leaves, noise, strict=True)])


PLANE = {
    "real_nvp": RealNVP((2,), network, steps=4, transform=affine(1.0)),
    "glow": Glow((2,), network, steps=3, transform=affine(1.0), permutation="plain"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANE)
def test_density_in_the_plane_integrates_to_1(name):
    bijector = PLANE[name]
    x = jax.random.normal(jax.random.key(2), (64, 2))
    params = moved(bijector, x)
    drawn = density.sample(jax.random.key(3), bijector, params, (20_000, 2))
    low, high = np.asarray(drawn.min(0)) - 4, np.asarray(drawn.max(0)) + 4
    cells = grid(low, high, 700)
    p = np.exp(np.asarray(density.log_prob(bijector, params, jnp.asarray(cells, jnp.float32)), np.float64))
    area = np.prod((high - low) / 700)
    assert p.sum() * area == pytest.approx(1, abs=2e-3)
    # Samples and density are of one distribution: the same mean and covariance.
    mean = (p @ cells) * area
    covariance = np.einsum("n,ni,nj->ij", p, cells - mean, cells - mean) * area
    std = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(drawn.mean(0), mean, atol=5 * std.max() / math.sqrt(20_000) + 1e-3)
    np.testing.assert_allclose(np.cov(np.asarray(drawn).T), covariance, atol=0.1 * std.max() ** 2)


@pytest.mark.slow
def test_a_linear_flow_is_a_gaussian():
    with jax.enable_x64(True):
        bijector = chain(ActNorm(), InvertibleConv())
        x = jax.random.normal(jax.random.key(0), (50, 3), jnp.float64) * jnp.asarray([1.0, 2.0, 0.5]) + 1
        params = moved(bijector, x)
        W = np.asarray(params["invertible_conv_0"]["kernel"]) * np.exp(params["act_norm_0"]["log_scale"])[:, None]
        covariance = np.linalg.inv(W @ W.T)
        exact = scipy.stats.multivariate_normal(-np.asarray(params["act_norm_0"]["bias"]), covariance)
        np.testing.assert_allclose(density.log_prob(bijector, params, x), exact.logpdf(x), rtol=1e-10)


@pytest.mark.slow
def test_temperature_scales_the_latent_and_keys_decide():
    bijector = Affine(2.0, 1.0)
    one, again, other = (density.sample(jax.random.key(k), bijector, {}, (5000, 4)) for k in (0, 0, 1))
    assert (one == again).all() and (one != other).any()
    half = density.sample(jax.random.key(0), bijector, {}, (5000, 4), temperature=0.5)
    np.testing.assert_allclose(half + 0.5, 0.5 * (one + 0.5), atol=1e-6)
    assert float(one.std()) == pytest.approx(0.5, rel=0.03)
    cold = density.sample(jax.random.key(0), bijector, {}, (2, 4), temperature=0.0)
    np.testing.assert_allclose(cold, -0.5)


def uniform():
    """The flow whose density is 1 on [0, 1]^D: z = Φ⁻¹(y)."""

    def forward(params, x):
        z = jax.scipy.stats.norm.ppf(x)
        return z, -density.standard_normal(z)

    def inverse(params, z):
        return jax.scipy.stats.norm.cdf(z), density.standard_normal(z)

    return Bijector(lambda key, x: {}, forward, inverse)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_uniform_density_costs_exactly_log2_levels_bits_per_dim(levels):
    with jax.enable_x64(True):
        x = jax.random.randint(jax.random.key(0), (5, 3, 2, 1), 0, levels)
        objective = density.negative_log_likelihood(uniform(), levels=levels)
        loss, aux = objective({}, {}, {"image": x}, key=jax.random.key(1), train=True)
        assert float(loss) == pytest.approx(6 * math.log(levels), rel=1e-7)
        assert float(aux.metrics["bits_per_dim"].value()) == pytest.approx(math.log2(levels), rel=1e-6)


@pytest.mark.slow
def test_the_bound_lies_above_the_probability_of_the_cell():
    # One pixel of 4 levels under logit(y) ~ N(0, 1): the mass of each cell is known.
    with jax.enable_x64(True):
        levels, bijector = 4, Logit(1e-9)
        edges = scipy.special.logit(np.arange(levels + 1) / levels)
        exact = -np.log(np.diff(scipy.stats.norm.cdf(edges)))
        x = jnp.repeat(jnp.arange(levels), 20_000).reshape(-1, 1)
        noise = jax.random.uniform(jax.random.key(0), x.shape, jnp.float64)
        nats = discrete_nats(density.log_prob(bijector, {}, dequantize(x, noise, levels)), 1, levels)
        nats = np.asarray(nats).reshape(levels, -1)
        assert (nats.mean(1) > exact).all()
        np.testing.assert_allclose(-np.log(np.exp(-nats).mean(1)), exact, atol=0.02)


def test_dequantised_pixels_stay_in_their_cell():
    x = jnp.arange(256, dtype=jnp.uint8)
    highest = jnp.full(256, 1 - jnp.finfo(jnp.float32).epsneg)
    for noise in (jnp.zeros(256), highest):
        y = dequantize(x, noise, 256)
        assert float(y.max()) < 1
    y = dequantize(x, jax.random.uniform(jax.random.key(0), (256,)), 256)
    np.testing.assert_allclose(quantize(y, 256) * 255, np.arange(256), atol=1e-4)
    np.testing.assert_array_equal(quantize(jnp.asarray([-0.2, 1.0, 1.7]), 17), [0, 1, 1])


@pytest.mark.slow
def test_objective_of_points_is_the_mean_negative_log_density():
    bijector = RealNVP((2,), network, steps=2)
    x = jax.random.normal(jax.random.key(0), (7, 2))
    params = moved(bijector, x)
    objective = density.negative_log_likelihood(bijector, target="point")
    loss, aux = objective(params, {}, {"point": x}, key=None, train=True)
    assert float(loss) == pytest.approx(-float(density.log_prob(bijector, params, x).mean()), rel=1e-6)
    assert 0 < float(aux.metrics["largest_log_scale"].value()) < 2.0 and aux.state == {}


def test_round_trip_error_sees_a_broken_inverse():
    good = Affine(3.0)
    x = jax.random.normal(jax.random.key(0), (4, 5))
    assert float(density.round_trip_error(good, {}, x).max()) < 1e-6
    broken = good._replace(inverse=lambda params, z: (z / 3 + jnp.eye(4, 5), jnp.zeros(4)))
    np.testing.assert_allclose(density.round_trip_error(broken, {}, x), 1, rtol=1e-5)


@pytest.mark.slow
def test_float32_round_trip_after_training():
    optax = pytest.importorskip("optax")
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(512, 2)) * [2.0, 0.4] + [[3.0, 0.0]], jnp.float32)
    x = x.at[:, 1].add(jnp.sin(x[:, 0]))
    bijector = RealNVP((2,), network, steps=4)
    params = bijector.init(jax.random.key(0), x)
    tx = optax.adam(1e-2)
    objective = density.negative_log_likelihood(bijector, target="point")

    @jax.jit
    def step(carry, _):
        params, opt = carry
        (loss, _), grads = jax.value_and_grad(objective, has_aux=True)(params, {}, {"point": x}, key=None, train=True)
        updates, opt = tx.update(grads, opt)
        return (optax.apply_updates(params, updates), opt), loss

    (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), length=500)
    # The entropy of the data, by the volume-keeping shear: two Gaussians.
    entropy = math.log(2 * math.pi * math.e) + math.log(2.0 * 0.4)
    assert float(losses[0]) > entropy + 0.4 and float(losses[-1]) < entropy + 0.15
    assert float(density.round_trip_error(bijector, params, x).max()) <= 1e-5


def test_bits_per_dim_of_a_flow_agrees_with_the_ruler():
    nats = discrete_nats(jnp.asarray([0.0]), 64, 17)
    assert float(bits_per_dim(nats, 64)[0]) == pytest.approx(math.log2(17), rel=1e-6)


def test_density_figure_writes_the_probability_on_the_square():
    points = np.random.default_rng(0).normal(size=(500, 2))
    log_density = scipy.stats.multivariate_normal(np.zeros(2), np.eye(2)).logpdf
    low, high = square(points)
    density = np.exp(log_density(grid(low, high, 60))).reshape(60, 60)
    figure = density_and_samples(low, high, density, points, points)
    titles = [axes.get_title() for axes in figure.axes]
    half = 0.55 * np.ptp(points, axis=0).max()
    centre = (points.max(0) + points.min(0)) / 2
    edges = scipy.stats.norm.cdf(np.stack([centre - half, centre + half]))
    mass = np.prod(edges[1] - edges[0])
    assert titles[0] == "data" and abs(float(titles[1].split("%")[0].split()[-1]) / 100 - mass) < 2e-3


@pytest.mark.slow
def test_noise_of_dequantisation_is_fresh_for_every_sub_pixel():
    """The flow sees (x + u)/L: all u of a batch differ and are uniform."""
    seen = []

    def forward(params, y):
        seen.append(y)
        return y, jnp.zeros(len(y))

    x = jax.random.randint(jax.random.key(0), (6, 8, 8, 3), 0, 16)
    objective = density.negative_log_likelihood(Bijector(lambda key, x: {}, forward, forward), levels=16)
    objective({}, {}, {"image": x}, key=jax.random.key(1), train=True)
    u = np.asarray(seen[0] * 16 - x)
    assert len(np.unique(u.round(7))) > 0.97 * u.size
    assert scipy.stats.kstest(u.ravel(), "uniform").pvalue > 0.01
