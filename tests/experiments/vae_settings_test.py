"""The settings of the VAE's codes and networks: what goes together trains, the rest is refused (lecture 24)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import DataSpec
from dlcore.train import main_fit
from dlcore.types import Carry
from experiments import vae

SPEC = DataSpec("squares", (4, 8, 1), 5, 2, ("a", "b"), (64, 8, 8), (0.5,), (0.3,))
ROWS = {
    "image": jnp.asarray(np.random.default_rng(0).integers(0, 5, (8, 4, 8, 1)), jnp.uint8),
    "row": jnp.arange(8, dtype=jnp.int32),
    "where": jnp.ones(8, bool),
}
SMALL = {"widths": (6,), "latent": 3, "iwae_samples": 4, "iwae_chunk": 2}
CODES = {"steps": 1, "widths": (6,), "context": 2, "pseudo_inputs": 3, "categories": 3}
SETTINGS = {
    "laplace": {"posterior": "laplace"},
    "logistic_vamp": {"posterior": "logistic", "prior": "vamp"},
    "concrete": {"posterior": "concrete"},
    "categorical": {"posterior": "categorical", "gradient": "rloo", "samples": 2},
    "flows": {"posterior": "flow", "prior": "flow"},
    "coupling": {"posterior": "flow", "prior": "flow", "flow": "coupling"},
    "vamp": {"prior": "vamp"},
    "stl": {"gradient": "stl"},
    "dreg": {"objective": "iwae", "samples": 3, "gradient": "dreg"},
    "conv_vamp": {"model": "conv", "prior": "vamp"},
    "ladder": {"model": "ladder", "widths": (3, 4), "code_channels": (1, 2), "likelihood": "logistic"},
}


def configured(**settings):
    settings = SMALL | settings
    codes = CODES | {name: settings.pop(name) for name in list(settings) if name in ("flow", "categories")}
    base = vae.preset("smoke", SPEC)
    return dataclasses.replace(base, **settings, codes=dataclasses.replace(base.codes, **codes))


def step(fit, rows, key):
    """Started, moved by one step, tested and sampled."""
    batch = fit.preprocess(rows, key=key, train=True)
    params, state = fit.init(key, batch)
    carry = Carry(params, state, fit.update.init(params, state))
    carry, metrics = fit.update.apply(carry, batch, key=key, step=jnp.int32(1))
    shown = {**fit.preprocess(rows, key=None, train=False), "where": rows["where"]}
    sums = fit.evaluate_test(carry.params, state, shown, key)
    return metrics, sums, fit.sample(carry.params, state, key, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_every_combination_builds_and_its_shapes_fit(name):
    fit = main_fit(vae.build(configured(**SETTINGS[name]), SPEC))[1]
    _, sums, images = jax.eval_shape(lambda rows, key: step(fit, rows, key), ROWS, jax.random.key(0))
    assert images.shape == (2, 4, 8, 1) and sums["negative_iwae"].total.shape == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["concrete", *(pytest.param(n, marks=pytest.mark.slow) for n in ("flows", "ladder"))])
def test_bounds_are_finite_and_in_their_order(name):
    fit = main_fit(vae.build(configured(**SETTINGS[name]), SPEC))[1]
    _, sums, images = jax.jit(lambda rows, key: step(fit, rows, key))(ROWS, jax.random.key(0))
    found = fit.summarize(sums)
    assert all(np.isfinite(value) for value in found.values()) and np.isfinite(images).all()
    assert found["nll_nats"] == -found["iwae_nats"]
    assert fit.ruler == {"bits_per_dim_kind": "upper bound", "bits_per_dim_of": "x"}


REFUSED = {
    "flow under vamp": ({"posterior": "flow", "prior": "vamp"}, "prior 'vamp' .* posterior 'flow'"),
    "one-hot flow": ({"posterior": "concrete", "prior": "flow"}, "'concrete' has one-hot codes, which prior 'flow'"),
    "ladder of flows": ({"model": "ladder", "posterior": "flow"}, "model=ladder has normal codes .* posterior=flow"),
    "exact by path": ({"posterior": "categorical"}, "use gradient='rloo', or posterior concrete"),
    "spelling": ({"posterior": "norml"}, "did you mean 'normal'"),
    "prior": ({"prior": "vampp"}, "did you mean 'vamp'"),
    "model": ({"model": "lader"}, "did you mean 'ladder'"),
    "chunk": ({"iwae_chunk": 3}, "iwae_chunk=3 must divide iwae_samples=4"),
    "flow": ({"prior": "flow", "flow": "glow"}, "unknown flow 'glow'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused_when_it_is_built(name):
    settings, text = REFUSED[name]
    with pytest.raises(ValueError, match=text):
        vae.build(configured(**settings), SPEC)
