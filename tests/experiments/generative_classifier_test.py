"""The generative classifier's densities, shapes only, and what it refuses (lecture 22)."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from dlcore.data import DataSpec
from dlcore.train import Fit, Study, main_fit
from experiments import generative_classifier

SMALL = {"widths": (4,), "latent": 2, "samples": 2, "study_samples": 1, "steps": 1, "features": 3, "windows": (3,)}


def spec_of(shape=(8, 8, 1), levels=17, classes=3):
    return DataSpec("drawn", shape, levels, classes, tuple("abc"), (60, 6, 12), (0.5,), (0.3,))


def built(spec, **settings):
    config = dataclasses.replace(generative_classifier.preset("smoke", spec), **{**SMALL, **settings})
    return generative_classifier.build(config, spec)


@pytest.mark.sampled
@pytest.mark.parametrize(("density", "levels"), [("vae", 17), ("vae", 256), ("flow", 17), ("pixelcnn", 256)])
def test_every_density_trains_is_measured_and_is_sampled(density, levels):
    spec = spec_of(levels=levels)
    system = built(spec, density=density)
    name, fit = main_fit(system)
    assert name == "density" and fit.ruler["bits_per_dim_kind"] == ("exact" if density == "pixelcnn" else "upper bound")
    batch = {
        "image": jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((4,), jnp.int32),
        "row": jax.ShapeDtypeStruct((4,), jnp.int32),
        "where": jax.ShapeDtypeStruct((4,), bool),
    }

    def whole(key, batch):
        params, state = fit.init(key, batch)
        sums = fit.evaluate_test(params, state, batch, key)
        seen = system.functions["predict"](params, state, batch["image"])
        return params, state, sums, seen, fit.sample(params, state, key, 5), fit.sample(params, state, key, 5, label=2)

    _, state, sums, seen, drawn, of_one = jax.eval_shape(whole, jax.random.key(0), batch)
    assert state["log_prior"].shape == (3,) and seen.shape == (4, 3)
    assert drawn.shape == of_one.shape == (5, 8, 8, 1) and {"nats", "given", "accuracy"} <= sums.keys()


def test_stages_come_in_order_and_the_curves_end_with_all_labels():
    stages = built(spec_of(), labels=(6, 30, 60, 100)).stages
    assert list(stages) == ["gaussian", "discriminative", "density", "labels", "damage", "baselines", "gallery"]
    assert stages["labels"].cells == ("n6", "n30", "n60") and isinstance(stages["discriminative"], Fit)
    beside = [name for name, stage in stages.items() if isinstance(stage, Study) and stage.beside]
    assert beside == ["baselines", "gallery"]


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        (spec_of(), {"density": "gan"}, "density must be one of vae, flow, pixelcnn"),
        (spec_of(), {"samples": 0}, "samples and study_samples must be at least 1, got 0"),
        (spec_of(shape=(2,), levels=None), {}, "needs labelled images, and drawn has none"),
        (spec_of(classes=None), {}, "needs labelled images"),
        (spec_of(shape=(6, 7, 1)), {"density": "flow"}, "cannot be halved 2 times"),
    ],
)
def test_bad_settings_are_refused(spec, settings, message):
    with pytest.raises(ValueError, match=message):
        built(spec, **settings)
