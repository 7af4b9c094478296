"""What every experiment owes: one trace, resuming, 1 device = 8 devices, finite metrics, typed presets."""

import dataclasses
import importlib

import jax
import numpy as np
import pytest
from contract_table import EXPERIMENTS

from dlcore.data.pipeline import choose
from dlcore.data.source import load
from dlcore.parallel.mesh import global_batch, make_mesh, on_every_device
from dlcore.parallel.sharding import fsdp, replicate
from dlcore.train.config import from_json, to_json
from dlcore.train.evaluate import make_evaluate
from dlcore.train.loop import make_engine, state_like

VARIANTS = [(name, variant) for name, variants in EXPERIMENTS.items() for variant in variants]
CASES = pytest.mark.parametrize(("name", "variant"), VARIANTS)


@pytest.fixture(scope="module")
def data():
    return load("digits")


def configured(name, variant, spec):
    module = importlib.import_module(f"experiments.{name}")
    config = dataclasses.replace(module.preset("smoke", spec), **EXPERIMENTS[name][variant])
    return module, dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=16))


def train(name, variant, data, *, devices, steps=3, rule=replicate, kind="resident"):
    module, config = configured(name, variant, data.spec)
    experiment, mesh = module.build(config, data.spec), make_mesh(devices)
    feed = choose(data.train, seed=0, batch_size=16, kind=kind)
    start = {"rows": {**data.train.read(np.arange(16)), "row": np.arange(16)}, "key": jax.random.key(0)}
    engine = make_engine(experiment, feed, config.train, **start, mesh=mesh, rule=rule)
    state, losses = engine.make(), []
    for _ in range(steps):
        totals = on_every_device(mesh, engine.zeros)
        state, totals = engine.program(state, totals, engine.resident, global_batch(mesh, feed.next(1), axis=1))
        losses.append({name: float(mean.value()) for name, mean in totals.items()})
    metrics = make_evaluate(experiment, mesh, 100, full=True)(state, data.test, jax.random.key(0))
    return engine, state, losses, metrics


def assert_same(name, value, expected):
    # A standard error is the root of a difference of near-equal sums when the model is untrained.
    np.testing.assert_allclose(value, expected, rtol=1e-2 if "stderr" in name else 1e-4, atol=1e-6, err_msg=name)


@CASES
def test_three_steps_one_trace(name, variant, data):
    engine, state, losses, metrics = train(name, variant, data, devices=1)
    assert engine.program._cache_size() == 1
    assert int(state.step) == 3
    assert np.isfinite([list(row.values()) for row in losses]).all() and np.isfinite(list(metrics.values())).all()


@CASES
def test_every_param_learns_and_the_average_follows(name, variant, data):
    engine, state, _, _ = train(name, variant, data, devices=1)
    start = engine.make()
    still = [path for path, (a, b) in _pairs(start.params, state.params) if (a == b).all()]
    assert not still, f"params that did not move: {still}"
    for path, (average, value) in _pairs(state.ema.get("params", {}), state.params) if state.ema else ():
        assert (average != value).any(), path


def _pairs(a, b):
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(a)]
    return list(zip(paths, zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True), strict=True))


@CASES
@pytest.mark.parametrize("rule", [replicate, fsdp(min_size=16)], ids=["replicate", "fsdp"])
def test_one_device_equals_eight(name, variant, data, rule):
    _, _one, losses, metrics = train(name, variant, data, devices=1)
    _, _eight, losses8, metrics8 = train(name, variant, data, devices=8, rule=rule)
    for a, b in zip(losses, losses8, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
    assert metrics.keys() == metrics8.keys()
    for name in metrics:
        assert_same(name, metrics[name], metrics8[name])


@CASES
def test_streamed_equals_resident(name, variant, data):
    _, resident, *_ = train(name, variant, data, devices=1)
    _, streamed, *_ = train(name, variant, data, devices=1, kind="grain")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), resident.params, streamed.params)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_presets_are_typed_and_survive_json(name, data):
    module = importlib.import_module(f"experiments.{name}")
    assert {"smoke", "default", "full"} <= set(module.PRESETS)
    for preset in module.PRESETS:
        config = module.preset(preset, data.spec)
        assert from_json(module.Config, to_json(config)) == config


def test_every_experiment_is_in_the_table():
    from launch.request import experiment_names

    assert experiment_names() == sorted(EXPERIMENTS)


@CASES
def test_evaluation_does_not_depend_on_its_batch_size(name, variant, data):
    module, config = configured(name, variant, data.spec)
    experiment, mesh = module.build(config, data.spec), make_mesh(1)
    start = {"rows": {**data.train.read(np.arange(16)), "row": np.arange(16)}, "key": jax.random.key(0)}
    state = state_like(experiment, **start, mesh=mesh, rule=replicate)[1]()
    large, small = (make_evaluate(experiment, mesh, size, full=True) for size in (200, 70))
    metrics = large(state, data.test, jax.random.key(0))
    for metric, value in small(state, data.test, jax.random.key(0)).items():
        assert_same(metric, value, metrics[metric])


@CASES
def test_samples_are_images_and_follow_their_key(name, variant, data):
    module, config = configured(name, variant, data.spec)
    experiment, mesh = module.build(config, data.spec), make_mesh(1)
    if experiment.sample is None:
        return
    start = {"rows": {**data.train.read(np.arange(16)), "row": np.arange(16)}, "key": jax.random.key(0)}
    state = state_like(experiment, **start, mesh=mesh, rule=replicate)[1]()
    one, again, other = (
        np.asarray(experiment.sample(state.params, state.state, jax.random.key(seed), 3)) for seed in (0, 0, 1)
    )
    assert one.shape == (3, *data.spec.shape) and np.isfinite(one).all() and one.min() >= 0 and one.max() <= 1
    assert (one == again).all() and (one != other).any()
