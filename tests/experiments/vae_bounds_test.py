"""The variational autoencoder's numbers: signs of the bounds, and what they bound (lecture 24)."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import DataSpec
from dlcore.train import main_fit
from experiments import vae

LEVELS, SHAPE = 5, (4, 3, 1)
SPEC = DataSpec("squares", SHAPE, LEVELS, 2, ("a", "b"), (64, 8, 8), (0.5,), (0.3,))
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, LEVELS, (8, *SHAPE)), jnp.uint8)
SETTINGS = {"widths": (6,), "latent": 3, "likelihood": "categorical", "iwae_samples": 40, "iwae_chunk": 20}


def measured(scale, **settings):
    """Metrics of the test protocol on eight images, the initial params multiplied by `scale`."""
    config = dataclasses.replace(vae.preset("smoke", SPEC), **(SETTINGS | settings))
    fit = main_fit(vae.build(config, SPEC))[1]
    rows = {"image": IMAGES, "row": jnp.arange(8), "where": jnp.ones(8, bool)}
    batch = fit.preprocess(rows, key=None, train=False)
    params, state = fit.init(jax.random.key(0), batch)
    params = jax.tree.map(lambda leaf: scale * leaf, params)
    sums = (fit.evaluate_test or fit.evaluate)(params, state, batch, jax.random.key(1))
    return fit.summarize(sums), fit


@pytest.mark.slow
def test_bounds_of_a_decoder_that_knows_nothing_are_minus_the_entropy_of_the_uniform_code():
    # All weights 0: q(z|x) = p(z), every grey level equally likely, and both bounds are exactly log p(x).
    found, fit = measured(0.0)
    nats = math.prod(SHAPE) * math.log(LEVELS)
    assert found["elbo_nats"] == pytest.approx(-nats, rel=1e-6)
    assert found["iwae_nats"] == pytest.approx(-nats, rel=1e-6)
    assert found["nll_nats"] == pytest.approx(nats, rel=1e-6)
    assert found["reconstruction_nats"] == pytest.approx(nats, rel=1e-6) and found["kl_nats"] == pytest.approx(0)
    assert found["bits_per_dim"] == pytest.approx(math.log2(LEVELS), rel=1e-6)
    assert fit.monitor == ("elbo_nats", "max")


@pytest.mark.slow
def test_bounds_lie_below_the_log_likelihood_in_their_order():
    found, _ = measured(3.0)
    assert found["elbo_nats"] < found["iwae_nats"] < 0
    assert found["elbo_nats"] == pytest.approx(-found["reconstruction_nats"] - found["kl_nats"], rel=1e-5)
    assert found["nll_nats"] == -found["iwae_nats"], "the ruler takes the tighter bound"
    assert found["kl_nats"] > 0.1


@pytest.mark.slow
def test_without_importance_weights_the_ruler_is_the_bound_itself():
    found, _ = measured(1.0, iwae_samples=0)
    assert "iwae_nats" not in found and found["nll_nats"] == -found["elbo_nats"]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_training_reports_the_bound_with_the_sign_that_the_test_has(objective):
    config = dataclasses.replace(vae.preset("smoke", SPEC), **SETTINGS, objective=objective, samples=2)
    fit = main_fit(vae.build(config, SPEC))[1]
    batch = fit.preprocess({"image": IMAGES}, key=None, train=False)
    params, state = fit.init(jax.random.key(0), batch)
    objective = vae.make_objective(config, vae.make_vae(config, SPEC), SPEC)
    zero = jax.tree.map(jnp.zeros_like, params)
    loss, aux = objective(zero, state, batch, key=jax.random.key(0), train=False)
    nats = math.prod(SHAPE) * math.log(LEVELS)
    assert float(aux.metrics["elbo_nats"].value()) == pytest.approx(-nats, rel=1e-5)
    assert float(loss) == pytest.approx(nats, rel=1e-5)
