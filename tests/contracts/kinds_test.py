"""Every preset on every kind of images: it builds, and start, step, evaluation and samples have shapes that fit."""

import importlib

import jax
import jax.numpy as jnp
import pytest
from contract_table import APART, EXPERIMENTS

from dlcore.data import DataSpec
from dlcore.parallel.mesh import make_mesh
from dlcore.parallel.sharding import replicate
from dlcore.train import main_fit, make_train_step
from dlcore.train._engine import state_like

KINDS = {
    "odd_colour": ((29, 31, 3), 256),
    "colour": ((32, 32, 3), 256),
    "wide_grey": ((20, 44, 1), 256),
    "small_odd_colour": ((7, 11, 3), 256),
    "small_high_grey": ((14, 6, 1), 256),
    "small_few_levels": ((9, 8, 1), 17),
    "four_channels": ((18, 18, 4), 256),
}
"""name: (height, width, channels), grey levels."""
PRESETS = [(name, preset) for name in EXPERIMENTS for preset in importlib.import_module(f"experiments.{name}").PRESETS]
ALL = [(name, preset, kind) for name, preset in PRESETS for kind in KINDS]


def spec_of(kind, examples=40, classes=3):
    shape, levels = KINDS[kind]
    names, moments = tuple("abcdefg"[:classes]), (0.4,) * shape[-1]
    return DataSpec(kind, shape, levels, classes, names, (examples, 4, 8), moments, moments)


def check_shapes(name, preset, spec):
    """Trace all that a run computes."""
    module = importlib.import_module(f"experiments.{name}")
    config = module.preset(preset, spec)
    fit = main_fit(module.build(config, spec))[1]
    batch = config.train.batch_size
    image = jax.ShapeDtypeStruct((batch, *spec.shape), jnp.uint8)
    numbers = jax.ShapeDtypeStruct((batch,), jnp.int32)
    rows = {"image": image, "label": numbers, "row": numbers}
    like, _ = state_like(fit, rows, key=jax.random.key(0), mesh=make_mesh(1), rule=replicate)
    step = make_train_step(fit.update, fit.preprocess)
    after, _ = jax.eval_shape(step, like, rows)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), like, after)
    assert all(jax.tree.leaves(same)), "a step keeps the shapes of the state"

    def test(params, state, rows, where):
        shown = fit.preprocess({**rows, "where": where}, key=None, train=False)
        return (fit.evaluate_test or fit.evaluate)(params, state, shown, jax.random.key(0))

    where = jax.ShapeDtypeStruct((batch,), jnp.bool_)
    sums = jax.eval_shape(test, like.params, like.state, rows, where)
    found = fit.summarize(jax.tree.map(lambda x: 2 * jnp.ones(x.shape, x.dtype), sums))
    assert fit.monitor[0] in found
    if fit.sample is None or (name, preset) == ("pixelcnn", "masked"):
        return  # Naive sampling runs the network once per sub-pixel, in a loop on the host.
    draw = lambda params, state: fit.sample(params, state, jax.random.key(0), 2)  # noqa: E731
    assert jax.eval_shape(draw, like.params, like.state).shape == (2, *spec.shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_smoke_on_colour_images_with_odd_sides(name):
    check_shapes(name, "smoke", spec_of("odd_colour"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset", "kind"), ALL)
def test_every_preset_on_every_kind_of_images(name, preset, kind):
    check_shapes(name, preset, spec_of(kind))


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", [*EXPERIMENTS, *(name for name in APART if name != "transfer")]
)  # it needs four classes
def test_every_preset_builds_from_a_single_training_image(name, kind):
    module, spec = importlib.import_module(f"experiments.{name}"), spec_of(kind, examples=1)
    for preset in module.PRESETS:
        assert module.build(module.preset(preset, spec), spec).stages
