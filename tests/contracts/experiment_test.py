"""What every experiment owes: one trace, resuming, 1 device = 8 devices, finite metrics, typed presets."""

import dataclasses
import importlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract_table import APART, EXPERIMENTS
from jax.sharding import Mesh

from dlcore.data import choose, load
from dlcore.nn import convolves, loops
from dlcore.parallel.mesh import global_batch, make_mesh, on_every_device
from dlcore.parallel.sharding import fsdp, replicate
from dlcore.train import Engine, Fit, from_json, main_fit, make_engine, make_evaluate, to_json, view_of
from dlcore.types import TrainState

VARIANTS = [(name, variant) for name, variants in EXPERIMENTS.items() for variant in variants]
FIRST = [(name, next(iter(variants))) for name, variants in EXPERIMENTS.items()]
"""One variant of every experiment, for what depends on how it reads data and not on its network."""

QUICK = (
    ("autoencoder", "sparse_contractive"),
    ("classify", "mlp"),
    ("optimizers", "mlp"),
    ("pixelcnn", "masked"),
    ("stacked", "two"),
    ("vae", "categorical_iwae"),
)
"""Variants in the default suite: the others take longer to compile and are slow proofs."""

LARGE = ("diffusion", "flow", "gan", "pixelcnn")
"""Experiments whose start is made on eight devices by the variants after their first only."""


def cases(of):
    return [pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow) for case in of]


@pytest.fixture(scope="module")
def data():
    return load("digits")


@pytest.fixture(scope="module", params=cases(VARIANTS), ids="-".join)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def alone(case, data):
    """Three steps on one device: what every other way of training is compared with."""
    return train(*case, data, devices=1)


@pytest.fixture(scope="module")
def metrics(alone, data):
    return measure(alone, data)


def configured(name, variant, spec):
    module = importlib.import_module(f"experiments.{name}")
    config = dataclasses.replace(module.preset("smoke", spec), **EXPERIMENTS[name][variant])
    return module, dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=16))


class Trained(NamedTuple):
    fit: Fit
    mesh: Mesh
    engine: Engine
    start: TrainState
    state: TrainState
    losses: list


def train(name, variant, data, *, devices, steps=3, rule=replicate, kind="resident", first=None):
    """Train from the start of the run `first`, or from one of its own."""
    module, config = configured(name, variant, data.spec)
    (_, fit), mesh = main_fit(module.build(config, data.spec)), make_mesh(devices)
    data = data if fit.data is None else fit.data(data, {})
    feed = choose(data.train, seed=0, batch_size=16, kind=kind)
    start = {"rows": {**data.train.read(np.arange(16)), "row": np.arange(16)}, "key": jax.random.key(0)}
    engine = make_engine(fit, feed, config.train, **start, mesh=mesh, rule=rule)
    if first is None:
        state = engine.make()
    else:
        state = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), first.start, engine.like)
    start, losses = jax.device_get(state), []  # a step takes the arrays over
    for _ in range(steps):
        totals = on_every_device(mesh, engine.zeros)
        state, totals = engine.program(state, totals, engine.resident, global_batch(mesh, feed.next(1), axis=1))
        losses.append({name: float(mean.value()) for name, mean in totals.items()})
    return Trained(fit, mesh, engine, start, state, losses)


def measure(trained, data, batch_size=100):
    evaluate = make_evaluate(trained.fit, trained.mesh, batch_size, full=True)
    data = data if trained.fit.data is None else trained.fit.data(data, {})
    return evaluate(trained.state, data.test, jax.random.key(0))


def assert_same(metrics, expected):
    assert metrics.keys() == expected.keys()
    for name, value in metrics.items():
        # A standard error is the root of a difference of near-equal float32 sums when the model is untrained:
        # an error of 1e-6 in the mean square is one of 1e-3 of the mean in the deviation.
        size = abs(metrics[name.removesuffix("_stderr")]) if "stderr" in name else 0.0
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6 + 1e-3 * size, err_msg=name)


def test_three_steps_one_trace(alone, metrics):
    assert alone.engine.program._cache_size() == 1
    assert int(alone.state.step) == 3
    assert np.isfinite([list(row.values()) for row in alone.losses]).all()
    assert np.isfinite(list(metrics.values())).all()


def test_every_param_learns_and_the_average_follows(alone):
    start, state = alone.start, alone.state
    still = [path for path, (a, b) in _pairs(start.params, state.params) if (a == b).all()]
    assert not still, f"params that did not move: {still}"
    view = view_of(alone.fit.update, state)
    for path, (average, value) in _pairs(view.params, state.params) if view.params is not state.params else ():
        assert (average != value).any(), path


def _pairs(a, b):
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(a)]
    return list(zip(paths, zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True), strict=True))


def test_one_device_equals_eight(case, alone, metrics, data):
    # Params in one piece for the first variant of an experiment, split over the devices for the others.
    rule = replicate if case in FIRST else fsdp(min_size=16)
    # And from a start made on eight devices, but for the largest: there that is a slow proof of the other variants.
    eight = train(*case, data, devices=8, rule=rule, first=alone if case in FIRST and case[0] in LARGE else None)
    for a, b in zip(alone.losses, eight.losses, strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
    assert_same(measure(eight, data), metrics)


def test_no_convolution_inside_a_loop(alone):
    batch = jax.ShapeDtypeStruct((1, 16), jnp.int32)
    programs = [
        jax.make_jaxpr(alone.engine.program)(alone.engine.like, alone.engine.zeros, alone.engine.resident, batch)
    ]
    if alone.fit.sample:
        draw = lambda p, s, k: alone.fit.sample(p, s, k, 4)  # noqa: E731
        programs.append(jax.make_jaxpr(draw)(alone.state.params, alone.state.state, jax.random.key(0)))
    for program in programs:
        assert not any(convolves(body) for body in loops(program)), "on CPU it is many times slower there"


@pytest.mark.parametrize("case", cases(FIRST), ids="-".join, indirect=True)
def test_streamed_equals_resident(case, alone, data):
    streamed = train(*case, data, devices=1, kind="grain", first=alone).state.params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), alone.state.params, streamed)


def test_evaluation_does_not_depend_on_its_batch_size(alone, metrics, data):
    assert_same(measure(alone, data, batch_size=70), metrics)


@pytest.mark.parametrize("name", [*EXPERIMENTS, *APART])
def test_presets_are_typed_and_survive_json(name, data):
    module = importlib.import_module(f"experiments.{name}")
    assert {"smoke", "default", "full"} <= set(module.PRESETS)
    for preset in module.PRESETS:
        config = module.preset(preset, data.spec)
        assert from_json(module.Config, to_json(config)) == config


def test_every_experiment_is_in_the_table():
    from dlcore.train.run import experiment_names

    assert experiment_names() == sorted([*EXPERIMENTS, *APART])
