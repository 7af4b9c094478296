"""The settings `head` and `weighting`: what reaches the network, the loss and the ruler."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import DataSpec
from dlcore.train import main_fit
from experiments import diffusion, pixelcnn, vae

LEVELS = 9


def spec_of(shape):
    return DataSpec("faces", shape, LEVELS, 3, ("a", "b", "c"), (300, 30, 30), (0.0,) * shape[-1], (1.0,) * shape[-1])


def rows_of(spec, count=3):
    images = jnp.asarray(np.random.default_rng(0).integers(0, LEVELS, (count, *spec.shape)), jnp.uint8)
    row = jnp.arange(count)
    return {"image": images, "label": row, "row": row, "where": jnp.ones(count, bool)}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gated", "masked"])
def test_a_pixelcnn_whose_colours_share_logistics(model):
    """With params of 0 every component is a logistic of scale 1 at 0, and the colours are alike and independent."""
    spec = spec_of((3, 2, 3))
    settings = {"features": 4, "hidden": 4, "windows": (3,), "dilations": (), "components": 2, "model": model}
    config = dataclasses.replace(pixelcnn.preset("smoke", spec), head="colour_mixture", conditional=False, **settings)
    network, likelihood = pixelcnn.make_network(config, spec)
    assert likelihood.joint and likelihood.channels == 20
    _, fit = main_fit(pixelcnn.build(config, spec))
    batch = fit.preprocess(rows_of(spec), key=None, train=False)
    params, state = fit.init(jax.random.key(0), batch)
    assert network.model.apply(params, state, batch["image"])[0].shape == (3, 3, 2, 20)
    params = jax.tree.map(jnp.zeros_like, params)
    found = fit.summarize(fit.evaluate(params, state, batch, jax.random.key(1)))
    edges = 1 / (1 + np.exp(-(2 * np.arange(LEVELS - 1) + 1 - (LEVELS - 1)) / (LEVELS - 1)))
    mass = np.diff([0.0, *edges, 1.0])
    bits = -np.log2(mass[np.asarray(rows_of(spec)["image"])]).mean()
    assert found["bits_per_dim"] == pytest.approx(bits, rel=1e-5)
    assert found["nll_nats"] == pytest.approx(bits * 18 * math.log(2), rel=1e-5)
    assert fit.ruler == {"bits_per_dim_kind": "exact", "bits_per_dim_of": "x"}


def test_an_unknown_head_names_those_there_are():
    spec = spec_of((3, 2, 3))
    config = dataclasses.replace(pixelcnn.preset("smoke", spec), head="colour")
    with pytest.raises(ValueError, match="head must be one of mixture, colour_mixture, categorical, got 'colour'"):
        pixelcnn.make_network(config, spec)


def test_a_vae_whose_decoder_gives_shared_logistics():
    spec = spec_of((2, 2, 3))
    settings = {"likelihood": "colour_mixture", "components": 2, "widths": (4,), "latent": 2}
    system = vae.make_vae(dataclasses.replace(vae.preset("smoke", spec), **settings), spec)
    params, _ = system.decoder.init(jax.random.key(0), jnp.zeros((3, 2)))
    assert system.decoder.apply(params, {}, jnp.zeros((3, 2)))[0].shape == (3, 2, 2, 20)


@pytest.mark.slow
def test_p2_is_chosen_by_name_and_weighs_the_held_out_loss_as_well():
    """With k far above any SNR of the schedule, λ = 1/k up to SNR/k: the loss is cut by k, the bound is not."""
    spec = spec_of((4, 4, 1))

    def evaluate(**settings):
        small = {"widths": (4,), "heads": 0, "steps": 10, "sample_steps": 2}
        config = dataclasses.replace(diffusion.preset("smoke", spec), **small, **settings)
        _, fit = main_fit(diffusion.build(config, spec))
        batch = fit.preprocess(rows_of(spec), key=None, train=False)
        params, state = jax.jit(fit.init)(jax.random.key(0), batch)
        return fit.summarize(jax.jit(fit.evaluate)(params, state, batch, jax.random.key(1)))

    plain, p2 = evaluate(), evaluate(weighting="p2", p2_k=1e8, p2_gamma=0.5)
    assert p2["loss"] == pytest.approx(plain["loss"] / 1e4, rel=1e-4)
    assert p2["nll_nats"] == pytest.approx(plain["nll_nats"], rel=1e-6)
    with pytest.raises(ValueError, match="did you mean 'p2'"):
        evaluate(weighting="p_2")
