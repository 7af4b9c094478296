"""What the likelihoods of the systems count: noise per sub-pixel, added borders, labels, whose number it is."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import DataSpec
from dlcore.generative.flow import density, held_out
from dlcore.train import main_fit
from dlcore.types import Carry
from experiments import diffusion, flow, gan, pixelcnn, vae

LEVELS = 256


def spec_of(shape, classes=3):
    moments = (0.5,) * shape[-1]
    return DataSpec("drawn", shape, LEVELS, classes, ("a", "b", "c")[:classes], (16, 4, 8), moments, moments)


def rows_of(spec, count=6):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, LEVELS, (count, *spec.shape)), jnp.uint8)
    labels, row = jnp.asarray(rng.integers(0, 3, count), jnp.int32), jnp.arange(count)
    return {"image": images, "label": labels, "row": row, "where": jnp.ones(count, bool)}


def small_flow(spec):
    config = dataclasses.replace(flow.preset("smoke", spec), scales=1, widths=(4,), steps=1)
    return config, main_fit(flow.build(config, spec))[1]


def recorded_noise(monkeypatch, rows, fit, params):
    seen = []
    plain = held_out.dequantize
    monkeypatch.setattr(held_out, "dequantize", lambda x, noise, levels: seen.append(noise) or plain(x, noise, levels))
    return np.asarray(jax.jit(lambda: fit.evaluate(params, {}, rows, jax.random.key(3)) and seen[-1])())


@pytest.mark.slow
def test_noise_of_dequantisation_is_drawn_for_every_sub_pixel_by_row(monkeypatch):
    spec = spec_of((6, 4, 3))
    _, fit = small_flow(spec)
    rows = rows_of(spec)
    params, _ = jax.jit(fit.init)(jax.random.key(0), fit.preprocess(rows, key=None, train=False))
    noise = recorded_noise(monkeypatch, rows, fit, params)
    assert noise.shape == rows["image"].shape
    assert len(np.unique(noise)) > 0.99 * noise.size, "every sub-pixel has noise of its own"
    assert ((noise >= 0) & (noise < 1)).all() and abs(noise.mean() - 0.5) < 4 / math.sqrt(12 * noise.size)
    turned = {name: values[::-1] for name, values in rows.items()}
    np.testing.assert_array_equal(recorded_noise(monkeypatch, turned, fit, params)[::-1], noise)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(5, 7, 3), (6, 3, 1)])
def test_a_flow_pays_for_the_border_that_it_adds_and_does_not_count_it(shape, monkeypatch):
    spec = spec_of(shape)
    config, fit = small_flow(spec)
    rows = rows_of(spec)
    batch = fit.preprocess(rows, key=None, train=False)
    params, _ = jax.jit(fit.init)(jax.random.key(0), batch)
    noise = recorded_noise(monkeypatch, batch, fit, params)
    sums = jax.jit(fit.evaluate)(params, {}, batch, jax.random.key(3))
    found = fit.summarize(sums)
    even = (shape[0] + shape[0] % 2, shape[1] + shape[1] % 2, shape[2])
    padded = np.zeros((len(rows["row"]), *even), np.float32)
    padded[:, : shape[0], : shape[1]] = rows["image"]
    body = flow.make_flow(config, spec)
    log_density = jax.jit(lambda y: density.log_prob(body, params, y))(jnp.asarray((padded + noise) / LEVELS))
    nats = float(-log_density.mean()) + math.prod(even) * math.log(LEVELS)
    assert found["nll_nats"] == pytest.approx(nats, rel=1e-5)
    assert found["bits_per_dim"] == pytest.approx(nats / math.log(2) / math.prod(shape), rel=1e-5)
    objective = jax.jit(
        functools.partial(density.negative_log_likelihood(body, levels=LEVELS, dims=math.prod(shape)), train=True)
    )
    loss, aux = objective(params, {}, batch, key=jax.random.key(1))
    per_dim = float(loss) / math.log(2) / math.prod(shape)
    assert float(aux.metrics["bits_per_dim"].value()) == pytest.approx(per_dim, rel=1e-5)


@pytest.mark.slow
def test_a_conditional_diffusion_bounds_the_image_alone():
    # At the start the output is 0 with a class or without, so that all that is left is −log p(class) = log 3.
    spec = spec_of((8, 8, 1))
    rows = rows_of(spec)

    def bound(conditional):
        settings = {"widths": (4,), "heads": 0, "steps": 10, "sample_steps": 2}
        config = dataclasses.replace(diffusion.preset("smoke", spec), conditional=conditional, **settings)
        fit = main_fit(diffusion.build(config, spec))[1]
        batch = fit.preprocess(rows, key=None, train=False)
        params, state = jax.jit(fit.init)(jax.random.key(0), batch)
        sums = jax.jit(fit.evaluate)(params, state, batch, jax.random.key(1))
        assert fit.ruler == {"bits_per_dim_kind": "upper bound", "bits_per_dim_of": "x"}
        return fit.summarize(sums)["nll_nats"]

    assert bound(True) - bound(False) == pytest.approx(math.log(3), abs=2e-3 * math.log(3))


def test_every_likelihood_says_whose_it_is():
    spec = spec_of((8, 8, 1))
    for conditional, of in ((True, "x given label"), (False, "x")):
        config = dataclasses.replace(pixelcnn.preset("smoke", spec), conditional=conditional)
        found = main_fit(pixelcnn.build(config, spec))[1].ruler
        assert found == {"bits_per_dim_kind": "exact", "bits_per_dim_of": of}
    for module in (vae, flow):
        found = main_fit(module.build(module.preset("smoke", spec), spec))[1].ruler
        assert found == {"bits_per_dim_kind": "upper bound", "bits_per_dim_of": "x"}
    assert main_fit(gan.build(gan.preset("smoke", spec), spec))[1].ruler == {}
    points = DataSpec("two_moons", (2,), None, 2, ("0", "1"), (300, 30, 30), (0.0, 0.0), (1.0, 1.0))
    assert main_fit(flow.build(flow.preset("smoke", points), points))[1].ruler == {}, (
        "a density in nats has no bits per level"
    )


def test_the_vae_models_pixels_as_they_are_stored_but_for_the_binarised_benchmark():
    colour, grey = spec_of((32, 32, 3)), spec_of((28, 28, 1))
    names = {
        "logistic": (colour, grey, grey._replace(name="folder:mine"), colour._replace(name="folder:colour_mnist")),
        "bernoulli": (grey._replace(name="fashion_mnist"), grey._replace(name="tfds:mnist")),
        "categorical": (grey._replace(name="digits", levels=17, shape=(8, 8, 1)),),
    }
    for likelihood, specs in names.items():
        for spec in specs:
            found = {preset: vae.preset(preset, spec).likelihood for preset in vae.PRESETS}
            assert found.pop("eight_bit") == "logistic", "that preset models grey levels whatever the data"
            assert set(found.values()) == {likelihood}, spec


def test_features_that_colours_do_not_divide_name_the_setting():
    spec = spec_of((8, 8, 3))
    config = dataclasses.replace(pixelcnn.preset("smoke", spec), features=32)
    with pytest.raises(ValueError, match=r"features=32 must be a multiple of 3 .* use 33"):
        pixelcnn.build(config, spec)
    with pytest.raises(ValueError, match=r"features=33 must be a multiple of 6 for model=masked.*; use 36"):
        pixelcnn.build(dataclasses.replace(config, model="masked", features=33), spec)
    with pytest.raises(ValueError, match="hidden=64 must be a multiple of the 3 colours"):
        pixelcnn.build(dataclasses.replace(config, features=33, hidden=64), spec)


def test_both_networks_of_a_gan_train_on_shifted_images(monkeypatch):
    spec = spec_of((8, 8, 1))
    shifted = []
    monkeypatch.setattr(gan, "random_shift", lambda key, x, pixels: shifted.append((x.shape, pixels)) or x)
    config = dataclasses.replace(gan.preset("smoke", spec), generator=(4, 4), discriminator=(4,), shift=2)
    fit = main_fit(gan.build(config, spec))[1]
    batch = fit.preprocess(rows_of(spec), key=None, train=True)
    params, state = jax.eval_shape(lambda: fit.init(jax.random.key(0), batch))
    carry = Carry(params, state, jax.eval_shape(fit.update.init, params, state))
    jax.eval_shape(lambda carry: fit.update.apply(carry, batch, key=jax.random.key(1), step=jnp.int32(0)), carry)
    assert len(shifted) >= 3, "the discriminator sees real and fake images moved, the generator its own"
    assert set(shifted) == {((6, 8, 8, 1), 2)}
