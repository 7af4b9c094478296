"""Held-out numbers of a diffusion are those of its parts, by hand; a guided prediction is the mixture of two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative.diffusion import bound, held_out, objective, process, sampling, schedule, weighting
from dlcore.types import Model

FULL = schedule.linear(20)
REVERSE = bound.Reverse(FULL, "eps", "beta", clip=1.0, levels=17)
X = 2 * jax.random.randint(jax.random.key(0), (5, 4, 4, 1), 0, 17) / 16 - 1.0


def network(slope=0.3):
    """A prediction that depends on the noisy image, its time and the label."""

    def apply(params, state, x, t, label=None, *, train=False, key=None):
        told = 0.0 if label is None else 0.1 * label[:, None, None, None]
        return slope * x + 0.01 * t[:, None, None, None] + told, state

    return Model(lambda key, *inputs: ({}, {}), apply)


def rows(count=5):
    return {"image": X, "label": jnp.arange(count) % 3, "row": jnp.arange(count), "where": jnp.arange(count) < 4}


@pytest.mark.slow
def test_errors_and_terms_by_time_are_those_of_single_times():
    predict = lambda x, t: network().apply({}, {}, x, t)[0]  # noqa: E731
    errors, terms = held_out.by_time(REVERSE, predict, X, np.array([1, 7, 20]), key=jax.random.key(3))
    eps = jax.random.normal(jax.random.key(3), X.shape)
    for i, step in enumerate((1, 7, 20)):
        t = jnp.full(5, step)
        x_t = process.diffuse(FULL, X, t, eps)
        guess = predict(x_t, schedule.told(FULL, t))
        assert errors["eps"][i] == pytest.approx(float(jnp.square(guess - eps).mean()), rel=1e-5)
        x0 = (x_t - FULL.noise[step] * guess) / FULL.signal[step]
        assert errors["x0"][i] == pytest.approx(float(jnp.square(x0 - X).mean()), rel=1e-3)
        assert terms[i] == pytest.approx(float(bound.term(REVERSE, predict, X, t, eps).mean()), rel=1e-4)


@pytest.mark.slow
def test_the_test_takes_more_times_and_the_loss_has_the_weights_of_training():
    weights = weighting.p2(FULL, gamma=0.5)
    keys = lambda key, rows: jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)  # noqa: E731
    options = {"dims": 16, "classes": 3, "draws": 1, "test_draws": 6}
    measure = held_out.held_out(network(), REVERSE, weights, keys, **options)
    batch, key = rows(), jax.random.key(5)
    one, six = (measure.summarize(f({}, {}, batch, key)) for f in (measure.evaluate, measure.evaluate_test))
    assert one["loss"] == six["loss"] and one["reconstruction_nats"] == six["reconstruction_nats"]
    assert one["divergence_nats"] != six["divergence_nats"]
    parts = [one[f"{name}_nats"] for name in ("prior", "divergence", "reconstruction")]
    assert one["nll_nats"] == pytest.approx(sum(parts) + np.log(3), rel=1e-5)
    eps = jax.vmap(lambda k: jax.random.normal(k, X.shape[1:]))(keys(jax.random.fold_in(key, 2), batch["row"]))
    t = 1 + (bound.spread(jax.random.fold_in(key, 3), batch["row"]) * 20).astype(jnp.int32)
    guess = network().apply({}, {}, process.diffuse(FULL, X, t, eps), schedule.told(FULL, t), batch["label"])[0]
    losses = np.asarray(jnp.square(guess - eps).mean((1, 2, 3))) * weights[np.asarray(t)]
    assert one["loss"] == pytest.approx(losses[:4].mean(), rel=1e-5)


def test_guidance_mixes_the_predictions_with_and_without_the_class():
    x, t, label = X, jnp.full(5, 3), jnp.arange(5) % 3
    with_class, without = (network().apply({}, {}, x, t, y)[0] for y in (label, jnp.full(5, 3)))
    for scale in (0.0, 1.0, 2.5):
        found = objective.guided_predict(network(), 3, scale)(x, t, {}, {}, label)
        np.testing.assert_allclose(found, (1 - scale) * without + scale * with_class, rtol=1e-5, atol=1e-6)
    plain = objective.guided_predict(network(), 0, 2.5)(x, t, {}, {}, label)
    np.testing.assert_array_equal(plain, network().apply({}, {}, x, t)[0])


def test_samples_show_all_classes_in_turn_and_a_path_ends_at_them():
    options = {"kind": "eps", "classes": 3, "sampler": "ddim", "steps": 4}
    draw = sampling.make_sample(network(), FULL, (4, 4, 1), **options)
    path = sampling.make_sample(network(), FULL, (4, 4, 1), **options, keep=True)
    x = draw({}, {}, jax.random.key(1), 5)
    np.testing.assert_array_equal(x, draw({}, {}, jax.random.key(1), 5, jnp.arange(5) % 3))
    assert path({}, {}, jax.random.key(1), 5).shape == (5, 5, 4, 4, 1)
    np.testing.assert_array_equal(path({}, {}, jax.random.key(1), 5)[-1], x)
    with pytest.raises(ValueError, match="sampler must be one of ancestral, ddim, dpm, got 'euler'"):
        sampling.make_sample(network(), FULL, (4, 4, 1), kind="eps", sampler="euler", steps=4)
