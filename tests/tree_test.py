"""Paths and what they say, over every network there is."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_table import TINY

from dlcore.generative.flow.chain import chain
from dlcore.generative.flow.linear import ActNorm, InvertibleConvPLU
from dlcore.losses.penalty import l1, l2
from dlcore.nn.layer_scale import LayerScale
from dlcore.optim.build import OptimizerConfig, build, decay_mask
from dlcore.tree import is_weight, named_leaves, stack_axes

sys.path.append(str(Path(__file__).parent / "contracts"))
from contract_table import MODELS

WEIGHTS = {"kernel", "embedding"}
"""Leaves that say how much of which input goes where."""


def shapes(model, shape, dtype):
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))[0]


LAYERS = {n: (c.model, c.input, jnp.int32 if c.integer else jnp.float32) for n, c in MODELS.items()}
NETWORKS = {n: (net.model, (2, net.pixels, net.pixels, 3), jnp.float32) for n, net in TINY.items()}


@pytest.mark.parametrize("table", [LAYERS, pytest.param(NETWORKS, marks=pytest.mark.slow)], ids=["layers", "networks"])
def test_weights_are_matrices_and_what_is_spared_has_one_number_per_unit(table):
    found = [(f"{name}/{path}", leaf) for name, case in table.items() for path, leaf in named_leaves(shapes(*case))]
    assert {path.rsplit("/", 1)[-1] for path, _ in found} <= {*WEIGHTS, "bias", "scale", "gamma"}
    for path, leaf in found:
        axes = len(leaf.shape) - stack_axes(path)
        assert is_weight(path) == (path.rsplit("/", 1)[-1] in WEIGHTS), path
        assert (axes > 1) == is_weight(path) or path.split("/")[-2].startswith("position"), path


def test_what_scales_single_units_is_neither_penalised_nor_decayed():
    flow = chain(ActNorm(), InvertibleConvPLU(3))
    x = jax.random.normal(jax.random.key(0), (4, 3))
    trees = [LayerScale(0.3).init(jax.random.key(0), x)[0], flow.init(jax.random.key(1), x)]
    names = {path.rsplit("/", 1)[-1]: is_weight(path) for tree in trees for path, _ in named_leaves(tree)}
    assert names == {"gamma": False, "bias": False, "log_scale": False, "lower": True, "upper": True}
    gamma = {"scale": {"gamma": jnp.full(3, 0.3)}}
    assert float(l2(gamma)) == float(l1(gamma)) == 0 and decay_mask(gamma) == {"scale": {"gamma": False}}
    for name in ("sgd", "adamw"):
        tx = build(OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.5), 5)
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, gamma), tx.init(gamma), gamma)
        np.testing.assert_array_equal(updates["scale"]["gamma"], 0)


@pytest.mark.parametrize("path", ["kernel", "a/kernel", "rest/stacked/conv/kernel", "scale/kernel", "bias/embedding"])
def test_only_the_last_name_decides(path):
    assert is_weight(path)
    assert not is_weight(f"{path}/bias") and not is_weight(
        path.replace("kernel", "gamma").replace("embedding", "scale")
    )
