"""Monte-Carlo dropout against the sum over all masks (lecture 12.8)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import (
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Noise,
    SpectralNorm,
    StochasticDepth,
    compose,
    compute_in,
    monte_carlo,
    monte_carlo_samples,
    scan,
    serial,
)

KEY, X = jax.random.key(0), jax.random.normal(jax.random.key(1), (5, 4))
RATE, HIDDEN = 0.3, 4
NET = serial(Dense(HIDDEN), BatchNorm(), Activation("tanh"), Dropout(RATE), Dense(3))
MASKS = np.array(list(itertools.product([0.0, 1.0], repeat=HIDDEN)))
WEIGHTS = np.prod(np.where(MASKS > 0, 1 - RATE, RATE), axis=1)


def fitted(model, x=X):
    """Params and state with running statistics far from those of a batch."""
    params, state = jax.jit(model.init)(jax.random.key(2), x)
    return params, jax.tree.map(lambda leaf: 0.5 * leaf + 0.3, state)


def every_mask(params, state):
    """The logits [masks, b, 3] by hand: running statistics, tanh, one mask after the other."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, state))
    params, norm = p[0], p[1]["batch_norm_0"]
    h = np.asarray(X, np.float64) @ params["dense_0"]["kernel"] + params["dense_0"]["bias"]
    h = (h - norm["mean"]) / np.sqrt(norm["variance"] + 1e-5)
    h = np.tanh(h * params["batch_norm_0"]["scale"] + params["batch_norm_0"]["bias"])
    return (MASKS[:, None] * h / (1 - RATE)) @ params["dense_1"]["kernel"] + params["dense_1"]["bias"]


def test_every_sample_is_one_of_the_masks_and_only_dropout_is_on():
    params, state = fitted(NET)
    run = jax.jit(lambda: monte_carlo_samples(NET, params, state, X, key=KEY, samples=40, chunk=16, output="linear"))
    found = run()
    distance = np.abs(np.asarray(found)[:, None] - every_mask(params, state)).max(-1)  # [samples, masks, b]
    assert distance.min(1).max() < 1e-5
    winners = distance.argmin(1)
    assert (winners != winners[:, :1]).any(), "examples have masks of their own"
    assert len(np.unique(winners)) > 8


def test_mean_and_variance_are_those_over_all_masks():
    params, state = fitted(NET)
    run = jax.jit(lambda key: monte_carlo(NET, params, state, X, key=key, samples=4000, chunk=1000))
    logits = every_mask(params, state)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    mean = np.tensordot(WEIGHTS, p, 1)
    variance = np.tensordot(WEIGHTS, (p - mean) ** 2, 1)
    found = run(KEY)
    np.testing.assert_array_less(np.abs(found.mean - mean), 5 * np.sqrt(variance / 4000) + 1e-6)
    np.testing.assert_allclose(found.variance, variance, rtol=0.15, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_do_not_change_the_numbers(chunk):
    params, state = fitted(NET)
    options = {"key": KEY, "samples": 7}
    draws = jax.jit(lambda: [monte_carlo_samples(NET, params, state, X, **options, chunk=c) for c in (7, chunk)])
    every, again = np.asarray(draws(), np.float64)
    found = jax.jit(lambda: monte_carlo(NET, params, state, X, **options, chunk=chunk))()
    np.testing.assert_allclose(found.mean, every.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.variance, every.var(0, ddof=1), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(every.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(again, every, rtol=1e-5)


def test_large_means_do_not_swallow_the_variance():
    model = serial(Dropout(0.5), Activation(lambda x: x.sum(-1) + 1e4))
    x = jnp.full((2, 50), 0.1)
    found = monte_carlo(model, {}, {}, x, key=KEY, samples=400, chunk=9, output="linear")
    np.testing.assert_allclose(found.variance, 50 * 0.1**2, rtol=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: scan(m, 2),
        lambda m: serial(m, m),
        lambda m: compose(lambda call, x: call("twice", call("twice", x)), twice=m),
        lambda m: compute_in(m, jnp.float32),
        SpectralNorm,
    ],
    ids=["scan", "serial", "shared", "compute_in", "spectral"],
)
def test_layers_are_found_wherever_a_model_is_composed_and_draw_apart(wrap):
    model = wrap(serial(Dense(4), Dropout(0.5)))
    params, state = fitted(model)
    run = jax.jit(lambda: monte_carlo_samples(model, params, state, X, key=KEY, samples=30, output="linear"))
    found = np.asarray(run())
    assert (found.std(0) > 0).all()
    zero = found == 0
    assert 0.35 < zero.mean() < 0.65, "the last dropout halves"
    assert (zero[0] != zero[1]).any() and (zero[:, 0] != zero[:, 1]).any()


def test_layers_in_a_row_have_masks_of_their_own():
    twice = compose(lambda call, x: call("drop", call("drop", x)), drop=Dropout(0.5))
    for model in (serial(Dropout(0.5), Dropout(0.5)), twice):
        kept = monte_carlo_samples(model, {}, {}, jnp.ones((50, 20)), key=KEY, samples=2, output="linear") != 0
        assert abs(float(kept.mean()) - 0.25) < 0.05


def test_other_noise_only_when_named():
    model = serial(Dense(4), Dropout(0.5), StochasticDepth(0.5), Noise(0.1))
    params, state = fitted(model)
    for kinds, values in ((("dropout",), 2), (("stochastic_depth",), 2), (("dropout", "noise"), 60)):
        run = jax.jit(
            lambda kinds=kinds: monte_carlo_samples(
                model, params, state, X[:1], key=KEY, samples=60, output="linear", kinds=kinds
            )
        )
        assert len(np.unique(np.asarray(run())[:, 0, 0])) == values


def test_bad_input():
    params, state = fitted(NET)
    for options, text in (({"samples": 1}, "two samples"), ({"samples": 4, "chunk": 0}, "chunk")):
        with pytest.raises(ValueError, match=text):
            monte_carlo(NET, params, state, X, key=KEY, **options)
    with pytest.raises(ValueError, match="samples must be a whole number of at least 1"):
        monte_carlo_samples(NET, params, state, X, key=KEY, samples=0)
    with pytest.raises(ValueError, match="did you mean 'softmax'"):
        monte_carlo(NET, params, state, X, key=KEY, samples=2, output="sofmax")
    for model, text in ((Dense(2), "single layer"), (Dropout(0.5), "serial"), (serial(Dense(2)), "nothing random")):
        with pytest.raises(ValueError, match=text):
            monte_carlo(model, *fitted(model), X, key=KEY, samples=2)
