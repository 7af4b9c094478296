"""Schedules, forward process and predictions against numerical probability (lecture 29.1, 29.3)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from dlcore.generative.diffusion import process, schedule
from dlcore.generative.diffusion.objective import draw_times, drop_labels, simple
from dlcore.types import Model

NAMES = ("linear", "cosine", "sigmoid")
EACH = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@EACH
@pytest.mark.parametrize("steps", [10, 50, 1000])
def test_schedules_start_at_the_data_and_end_in_noise(name, steps):
    found = schedule.by_name(name, steps)
    assert found.steps == steps and found.beta.shape == found.alpha_bar.shape == found.time.shape == (steps + 1,)
    assert found.alpha_bar[0] == 1 and found.beta[0] == 0 and (found.beta[1:] > 0).all() and (found.beta < 1).all()
    assert (np.diff(found.alpha_bar) < 0).all()
    assert found.alpha_bar[-1] < 1e-4
    np.testing.assert_allclose(found.signal**2 + found.noise**2, 1, rtol=1e-14)


def test_schedules_are_the_published_ones():
    line, cos, sig = (schedule.by_name(name, 1000) for name in NAMES)
    assert line.beta[1] == pytest.approx(1e-4) and line.beta[-1] == pytest.approx(0.02)
    np.testing.assert_allclose(np.diff(line.beta[1:]), (0.02 - 1e-4) / 999, rtol=1e-9)
    t = np.arange(1000)
    f = np.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(cos.alpha_bar[:-1], f / f[0], rtol=1e-10)
    assert cos.beta[-1] == 0.999
    np.testing.assert_allclose(sig.beta[1:] + sig.beta[:0:-1], 0.02 + 1e-4, rtol=1e-9)
    assert sig.beta[500] < 0.01005 < sig.beta[501]


def test_schedule_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        schedule.by_name("cosin", 10)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        schedule.linear(0)
    with pytest.raises(ValueError, match=r"numbers in \(0, 1\)"):
        schedule.from_betas(np.array([0.1, 1.0]))
    with pytest.raises(ValueError, match="steps=11"):
        schedule.respace(schedule.linear(10), 11)


@EACH
@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_respacing_keeps_the_marginals(name, power):
    full = schedule.by_name(name, 200)
    short = schedule.respace(full, 20, power)
    assert short.steps == 20 and short.time[0] == 0 and short.time[-1] == 200 and (np.diff(short.time) > 0).all()
    np.testing.assert_array_equal(short.alpha_bar, full.alpha_bar[short.time])
    np.testing.assert_allclose(np.cumprod(1 - short.beta), short.alpha_bar, rtol=1e-9)
    same = schedule.respace(full, 200)
    np.testing.assert_allclose(same.beta, full.beta, rtol=1e-9)


@pytest.mark.slow
@EACH
def test_single_steps_compose_to_the_closed_form(name, float64):
    found = schedule.by_name(name, 60)
    x0 = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    mean, variance = x0, jnp.zeros((3, 1))
    for t in range(1, 61):
        step = process.q_step(found, mean, jnp.full(3, t))
        mean, variance = step.mean, (1 - found.beta[t]) * variance + step.variance
        closed = process.q_marginal(found, x0, jnp.full(3, t))
        np.testing.assert_allclose(mean, closed.mean, rtol=1e-10)
        np.testing.assert_allclose(variance, closed.variance, rtol=1e-10)


def test_drawn_single_steps_have_the_marginal_distribution():
    found, x = schedule.cosine(20), jnp.full((4000, 1), 0.8)
    for t in range(1, 13):
        x = process.draw(jax.random.key(t), process.q_step(found, x, jnp.full(4000, t)))
    mean, variance = process.q_marginal(found, jnp.full((1, 1), 0.8), jnp.array([12]))
    fit = scipy.stats.norm(mean.item(), math.sqrt(variance.item()))
    assert scipy.stats.kstest(np.asarray(x)[:, 0], fit.cdf).pvalue > 0.01


@EACH
@pytest.mark.parametrize("t", [2, 7, 20])
def test_posterior_is_the_normalised_product_of_densities(name, t, float64):
    found, x0, x_t = schedule.by_name(name, 20), 0.7, -0.4
    mean, variance = process.q_posterior(found, jnp.array([[x0]]), jnp.array([[x_t]]), jnp.array([t]))
    mean, deviation = mean.item(), math.sqrt(variance.item())
    grid = mean + deviation * np.linspace(-9, 9, 40_001)
    before = scipy.stats.norm(math.sqrt(found.alpha_bar[t - 1]) * x0, math.sqrt(1 - found.alpha_bar[t - 1])).pdf(grid)
    density = before * scipy.stats.norm(np.sqrt(1 - found.beta[t]) * grid, math.sqrt(found.beta[t])).pdf(x_t)
    density /= np.trapezoid(density, grid)
    np.testing.assert_allclose(density, scipy.stats.norm(mean, deviation).pdf(grid), atol=1e-8 / deviation)


def test_posterior_at_the_first_step_is_the_data():
    found = schedule.linear(10)
    mean, variance = process.q_posterior(found, jnp.array([[0.7]]), jnp.array([[3.0]]), jnp.array([1]))
    assert mean.item() == pytest.approx(0.7) and variance.item() == 0


@EACH
@pytest.mark.parametrize("kind", process.KINDS)
def test_predictions_convert_and_invert(name, kind, float64):
    found, rng = schedule.by_name(name, 30), np.random.default_rng(0)
    x0, eps = jnp.asarray(rng.normal(size=(2, 30, 2, 2, 1)))
    t = jnp.arange(1, 31)
    x_t = process.diffuse(found, x0, t, eps)
    goal = process.target(found, kind, x0, t, eps)
    back = process.denoise(found, kind, x_t, t, goal)
    np.testing.assert_allclose(back.x0, x0, atol=1e-6)
    np.testing.assert_allclose(back.eps, eps, atol=1e-6)
    for other in process.KINDS:
        converted = process.target(found, other, back.x0, t, back.eps)
        np.testing.assert_allclose(process.denoise(found, other, x_t, t, converted).x0, x0, atol=1e-5)
    with pytest.raises(ValueError, match="one of eps, x0, v"):
        process.target(found, "score", x0, t, eps)


def test_v_is_the_rate_of_change_along_the_circle(float64):
    # With √ᾱ = cos φ and √(1 − ᾱ) = sin φ, v = dx/dφ (Salimans & Ho 2022).
    found, x0, eps = schedule.cosine(9), jnp.array([[0.3, -1.0]]), jnp.array([[1.2, 0.4]])
    phi = math.acos(found.signal[4])
    expected = jax.jacfwd(lambda p: jnp.cos(p) * x0 + jnp.sin(p) * eps)(phi)
    np.testing.assert_allclose(process.target(found, "v", x0, jnp.array([4]), eps), expected, rtol=1e-10)


def test_times_are_uniform_over_all_steps_and_spread_over_a_batch():
    keys = jax.random.split(jax.random.key(0), 4000)
    times = np.asarray(jax.vmap(lambda key: draw_times(key, 7, 3))(keys))
    for column in times.T:
        counts = np.bincount(column, minlength=8)
        assert counts[0] == 0 and scipy.stats.chisquare(counts[1:]).pvalue > 1e-3
    batch = np.bincount(np.asarray(draw_times(jax.random.key(1), 8, 800)), minlength=9)[1:]
    assert batch.min() >= 99 and batch.max() <= 101


def test_labels_are_dropped_at_their_rate():
    labels = jnp.arange(10_000) % 10
    dropped = np.asarray(drop_labels(jax.random.key(0), labels, 10, 0.2))
    assert 0.18 < (dropped == 10).mean() < 0.22 and (dropped[dropped != 10] == labels[dropped != 10]).all()
    assert (drop_labels(jax.random.key(0), labels, 10, 0.0) == labels).all()
    assert (drop_labels(jax.random.key(0), labels, 10, 1.0) == 10).all()
    with pytest.raises(ValueError, match="rate"):
        drop_labels(jax.random.key(0), labels, 10, 1.5)


def constant(value):
    """A network that answers `value` and keeps the inputs of its last call."""
    seen = {}

    def apply(params, state, *inputs, train=False, key=None):
        seen["inputs"] = inputs
        return jnp.full_like(inputs[0], value), state

    return Model(lambda key, *inputs: ({}, {}), apply), seen


@pytest.mark.slow
@pytest.mark.parametrize("kind", process.KINDS)
def test_loss_of_a_constant_prediction_is_its_known_expectation(kind):
    # Targets are centred here, so that E(target − c)² = E target² + c²: 1, m² and ᾱ + (1 − ᾱ) m² on average over t.
    found, (network, _) = schedule.linear(40), constant(0.5)
    x0 = jnp.where(jnp.arange(8000) % 2 == 0, 0.8, -0.8)[:, None, None, None]
    objective = simple(network, found, kind=kind)
    loss, aux = objective({}, {}, {"image": x0}, key=jax.random.key(0), train=True)
    alpha_bar = found.alpha_bar[1:]
    power = {"eps": 1.0, "x0": 0.64, "v": (alpha_bar + (1 - alpha_bar) * 0.64).mean()}[kind]
    assert float(loss) == pytest.approx(power + 0.25, rel=0.03)
    assert float(aux.metrics["loss"].value()) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.slow
def test_network_sees_the_diffused_data_its_times_and_labels():
    found, (network, seen) = schedule.cosine(5), constant(0.0)
    batch = {"point": jnp.zeros((50, 3)), "label": jnp.arange(50) % 4}
    objective = simple(network, found, data="point", labels="label", null=4, drop=0.5)
    objective({}, {}, batch, key=jax.random.key(0), train=True)
    x_t, t, label = (np.asarray(value) for value in seen["inputs"])
    assert set(t) == {1, 2, 3, 4, 5}
    np.testing.assert_allclose(x_t[t == 1].std(), found.noise[1], rtol=0.3)
    assert set(label[label != batch["label"]]) == {4} and 10 < (label == 4).sum() < 40
