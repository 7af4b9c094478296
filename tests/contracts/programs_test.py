"""Every system and every network leaves as a program for any number of rows."""

import importlib
from pathlib import Path

import jax
import numpy as np
import pytest
from contract_table import EXPERIMENTS
from network_table import TINY

from dlcore.data import load
from dlcore.parallel.mesh import make_mesh
from dlcore.parallel.sharding import named_rule
from dlcore.train import export, main_fit, view_of
from dlcore.train._engine import state_like
from dlcore.train.run import Run
from dlcore.types import View

WITHOUT = ("bagging", "bias_variance", "capacity", "initialisation", "optimizers", "pca", "transfer")
"""Studies of many fits, which leave no model to be used."""


def exported_of(name):
    """Run and shapes of the view of a small variant of a system."""
    data, module = load("digits"), importlib.import_module(f"experiments.{name}")
    variant = next(iter(EXPERIMENTS.get(name, {"": {}}).values()))
    config = module.preset("smoke", data.spec)
    config = type(config)(**{**{k: getattr(config, k) for k in config.__dataclass_fields__}, **variant})
    run = Run(Path("nowhere"), module.build(config, data.spec), None, data.spec, 0, {}, config)
    _, fit = main_fit(run.system)
    data = data if fit.data is None else fit.data(data, {})
    rows = {**data.train.read(np.arange(2)), "row": np.arange(2, dtype=np.int32)}
    like, _ = state_like(fit, rows, key=jax.random.key(0), mesh=make_mesh(1), rule=named_rule("replicate"))
    return run, jax.eval_shape(lambda state: view_of(fit.update, state), like)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(EXPERIMENTS) - set(WITHOUT)))
def test_every_function_of_a_system_is_a_program_for_any_number_of_rows(name):
    run, view = exported_of(name)
    assert export.names(run), "a system that is used for something"
    for function in export.names(run):
        made = export.program(run, view, function)
        assert str(made.in_avals[-1].shape[0]) == "n" and set(made.platforms) == {"cpu", "cuda", "tpu"}
        assert all(str(out.shape[0]) == "n" for out in made.out_avals)
        assert made.mlir_module_serialized


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_every_network_gives_the_same_as_a_program(name):
    model, pixels = TINY[name].model, TINY[name].pixels
    x = np.random.default_rng(0).random((3, pixels, pixels, 3), np.float32)
    params, state = jax.jit(model.init)(jax.random.key(0), x)
    apply = lambda params, state, x: model.apply(params, state, x)[0]  # noqa: E731
    made = export.exported(apply, View(params, state, {}), jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
    expected = np.asarray(jax.jit(apply)(params, state, x))
    for rows in (x, x[:1]):
        np.testing.assert_allclose(made.call(params, state, rows), expected[: len(rows)], rtol=1e-4, atol=1e-5)
