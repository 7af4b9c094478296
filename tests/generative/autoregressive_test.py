"""Autoregression: probabilities that sum to 1, cached = naive sampling, completion (lecture 26)."""

import itertools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative import autoregressive
from dlcore.generative.decoder import categorical, discretized_logistic
from dlcore.networks import GatedPixelCNN, PixelCNN


def trained_like(network, shape, *label):
    """Params that are not at their start: biases and labels matter."""
    x = jnp.zeros((1, *shape))
    move = lambda p: p + 0.2 * jax.random.normal(jax.random.key(p.size), p.shape)  # noqa: E731

    @jax.jit
    def start(x, *label):
        params, state = network.model.init(jax.random.key(0), x, *label)
        return jax.tree.map(move, params), state

    return start(x, *label)


def nll_of(network, family, params, state, images):
    return jax.jit(lambda *args: autoregressive.nll(network.model, family, *args))(params, state, images)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [PixelCNN(4, features=8, first=3, windows=(3,)), GatedPixelCNN(4, features=8, windows=(3, 3))],
    ids=["masked", "gated"],
)
def test_the_probabilities_of_all_images_sum_to_one(network):
    params, state = trained_like(network, (2, 2, 1))
    images = np.array(list(itertools.product(range(4), repeat=4)), np.float32).reshape(256, 2, 2, 1) / 3
    nats = nll_of(network, categorical(4), params, state, jnp.asarray(images))
    assert float(jnp.exp(-nats).sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_and_with_colours_and_a_mixture():
    family = discretized_logistic(2, components=2)
    network = GatedPixelCNN(family.channels, colours=2, features=8, windows=(3,))
    params, state = trained_like(network, (2, 2, 2))
    images = np.array(list(itertools.product(range(2), repeat=8)), np.float32).reshape(256, 2, 2, 2)
    nats = nll_of(network, family, params, state, jnp.asarray(images))
    assert float(jnp.exp(-nats).sum()) == pytest.approx(1, abs=1e-5)


def test_nll_against_a_hand_table():
    # A network that ignores its input: every pixel is level k with probability (1, 2, 3, 4)/10.
    network = PixelCNN(4, features=8, first=3, windows=())
    params, state = network.model.init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))
    params = jax.tree.map(jnp.zeros_like, params)
    params["head"]["outputs"]["bias"] = jnp.log(jnp.arange(1.0, 5))
    x = jnp.asarray([[0, 1], [2, 3]], jnp.float32).reshape(1, 2, 2, 1) / 3
    expected = -math.log(1 * 2 * 3 * 4 / 10**4)
    assert float(autoregressive.nll(network.model, categorical(4), params, state, x)[0]) == pytest.approx(expected)


CASES = {
    "categorical": (categorical(17), {"features": 12, "windows": (5, 3, 1)}, 1),
    "mixture": (discretized_logistic(17, 3), {"features": 12, "windows": (3, 3), "dilations": (1, 2)}, 1),
    "colours": (categorical(5), {"features": 12, "windows": (3, 3), "colours": 3}, 3),
    "label": (categorical(5), {"features": 12, "windows": (3, 3), "classes": 4}, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_cached_sampling_is_naive_sampling_pixel_for_pixel(name):
    family, options, colours = CASES[name]
    network = GatedPixelCNN(family.channels, **options)
    label = (jnp.asarray([1, 3, 0]),) if "classes" in options else ()
    params, state = trained_like(network, (6, 5, colours), *(y[:1] for y in label))
    shape, key = (3, 6, 5, colours), jax.random.key(7)
    naive = autoregressive.sample_naive(key, network.model, family, params, state, shape, *label)
    cached = jax.jit(lambda key: autoregressive.sample(key, network, family, params, shape, *label))(key)
    np.testing.assert_array_equal(naive, cached)
    assert len(np.unique(np.asarray(naive))) > 3


@pytest.mark.slow
def test_cached_sampling_is_fifty_times_faster():
    """Sixteen images of 28×28 by the network of the Fashion-MNIST recipe."""
    family = discretized_logistic(256, 5)
    network, shape = GatedPixelCNN(family.channels, features=32), (16, 28, 28, 1)
    params, state = trained_like(network, shape[1:])
    sample = jax.jit(lambda key: autoregressive.sample(key, network, family, params, shape))

    def seconds(run):
        start = time.perf_counter()
        images = jax.block_until_ready(run(jax.random.key(1)))
        return time.perf_counter() - start, images

    seconds(sample)
    fast, cached = min((seconds(sample) for _ in range(3)), key=lambda found: found[0])
    slow, naive = seconds(lambda key: autoregressive.sample_naive(key, network.model, family, params, state, shape))
    np.testing.assert_array_equal(naive, cached)
    assert slow >= 50 * fast


@pytest.mark.slow
def test_completion_keeps_what_is_known_and_follows_it():
    family, options, _ = CASES["categorical"]
    network = GatedPixelCNN(family.channels, **options)
    params, _ = trained_like(network, (6, 5, 1))
    key, shape = jax.random.key(1), (2, 6, 5, 1)
    free = jax.jit(lambda: autoregressive.sample(key, network, family, params, shape))()
    upper = jnp.arange(6)[:, None] < jnp.full((1, 5), 3)
    complete = jax.jit(lambda known: autoregressive.sample(
        key, network, family, params, shape, known=known, where=upper
    ))  # fmt: skip
    same = complete(free)
    np.testing.assert_array_equal(free, same)
    other = complete(1 - free)
    np.testing.assert_array_equal(other[:, :3], 1 - free[:, :3])
    assert (other[:, 3:] != free[:, 3:]).any()
    with pytest.raises(ValueError, match="belong together"):
        autoregressive.sample(key, network, family, params, shape, known=free)


@pytest.mark.slow
def test_draws_have_the_models_distribution():
    family, network = categorical(2), GatedPixelCNN(2, features=6, windows=(3,))
    params, state = trained_like(network, (2, 2, 1))
    draws = jax.jit(lambda key: autoregressive.sample(key, network, family, params, (20_000, 2, 2, 1)))(
        jax.random.key(0)
    )
    code = np.asarray(draws).reshape(-1, 4) @ [8, 4, 2, 1]
    images = np.array(list(itertools.product(range(2), repeat=4)), np.float32).reshape(16, 2, 2, 1)
    p = np.exp(-nll_of(network, family, params, state, jnp.asarray(images)))
    share = np.bincount(code.astype(int), minlength=16) / 20_000
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 20_000) + 1e-6).all()


@pytest.mark.slow
def test_samples_by_class_in_turn_and_completions_keep_the_upper_half():
    network, family = GatedPixelCNN(4, features=8, windows=(3, 3), classes=3), categorical(4)
    params, state = trained_like(network, (4, 3, 1), jnp.zeros(1, jnp.int32))
    draw = autoregressive.make_sample(network, family, (4, 3, 1), classes=3)
    key, shape = jax.random.key(1), (5, 4, 3, 1)
    labelled = jax.jit(lambda label: autoregressive.sample(key, network, family, params, shape, label))
    turns = labelled(jnp.arange(5) % 3)
    np.testing.assert_array_equal(draw(params, state, key, 5), turns)
    same = labelled(jnp.full(5, 2))
    np.testing.assert_array_equal(draw(params, state, key, 5, label=2), same)
    slow = autoregressive.make_sample(network._replace(pixel=None), family, (4, 3, 1), classes=3)
    np.testing.assert_array_equal(slow(params, state, key, 5), turns)
    given, drawn = autoregressive.completions(network, family, params, same, jnp.full(5, 2), count=2)
    assert (given[:, 2:] == 0.5).all() and len(drawn) == 2 and (drawn[0] != drawn[1]).any()
    for image in (given, *drawn):
        np.testing.assert_array_equal(image[:, :2], same[:, :2])
