"""Paths and what they say, over every network there is."""

import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_table import TINY

from dlcore.generative.flow import ActNorm, InvertibleConvPLU, chain
from dlcore.losses import l1, l2
from dlcore.nn import LayerScale
from dlcore.optim import OptimizerConfig, decay_mask, make_optimizer
from dlcore.tree import is_weight, matching, merge, named_leaves, partition, stack_axes, stacked

sys.path.append(str(Path(__file__).parent / "contracts"))
from contract_table import MODELS

WEIGHTS = {"kernel", "embedding"}
"""Leaves that say how much of which input goes where."""


def shapes(model, shape, dtype):
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, dtype))[0]


LAYERS = {n: (c.model, c.input, jnp.int32 if c.integer else jnp.float32) for n, c in MODELS.items()}
NETWORKS = {n: (net.model, (2, net.pixels, net.pixels, 3), jnp.float32) for n, net in TINY.items()}


@pytest.mark.slow
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
        tx = make_optimizer(OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.5), 5)
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, gamma), tx.init(gamma), gamma)
        np.testing.assert_array_equal(updates["scale"]["gamma"], 0)


@pytest.mark.parametrize("path", ["kernel", "a/kernel", "rest/stacked/conv/kernel", "scale/kernel", "bias/embedding"])
def test_only_the_last_name_decides(path):
    assert is_weight(path)
    assert not is_weight(f"{path}/bias") and not is_weight(
        path.replace("kernel", "gamma").replace("embedding", "scale")
    )


PATHS = ["bias", "encoder/bias", "encoder/conv_0/kernel", "encoder/conv_1/kernel", "head/kernel", "head.kernel"]
PATTERNS = {
    "bias": "bias",
    "**/bias": "bias encoder/bias",
    "*/bias": "encoder/bias",
    "encoder/**": "encoder/bias encoder/conv_0/kernel encoder/conv_1/kernel",
    "encoder/*": "encoder/bias",
    "encoder/*/kernel": "encoder/conv_0/kernel encoder/conv_1/kernel",
    "encoder/**/kernel": "encoder/conv_0/kernel encoder/conv_1/kernel",
    "head/**/kernel": "head/kernel",
    "head/kernel/**": "head/kernel",
    "encoder/conv_?/kernel": "encoder/conv_0/kernel encoder/conv_1/kernel",
    "head.kernel": "head.kernel",
    "h*kernel": "head.kernel",
    "**/*_1/**": "encoder/conv_1/kernel",
    ("bias", "head/**"): "bias head/kernel",
    ("**", "!**/bias"): "encoder/conv_0/kernel encoder/conv_1/kernel head/kernel head.kernel",
    "!encoder/**": "bias head/kernel head.kernel",
    ("!encoder/**", "encoder/bias"): "bias encoder/bias head/kernel head.kernel",
    ("encoder/bias", "!encoder/**"): "",
    ("encoder/**", "!encoder/*/kernel", "encoder/conv_1/*"): "encoder/bias encoder/conv_1/kernel",
}


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_patterns_by_hand(pattern):
    assert matching(pattern, PATHS) == set(PATTERNS[pattern].split())


UNFITTING = {
    "encoder/conv_2/kernel": "pattern 'encoder/conv_2/kernel' fits no path; did you mean 'encoder/conv_",
    "ead/kernel": "did you mean 'head/kernel'",
    "encoder": "pattern 'encoder' fits no path",
    "encoder/conv": "pattern 'encoder/conv' fits no path",
    "Bias": "did you mean 'bias'",
    "headxkernel": "did you mean 'head",
    ("**", "!hed/**"): "pattern '!hed/**' fits no path",
    ("head/**", "zzz"): "pattern 'zzz' fits no path; there are bias, encoder/bias, ",
}


@pytest.mark.parametrize("pattern", UNFITTING, ids=str)
def test_a_part_that_fits_nothing_is_refused_with_the_nearest(pattern):
    with pytest.raises(ValueError, match=re.escape(UNFITTING[pattern])):
        matching(pattern, PATHS)
    rest = [part for part in pattern[:1] if isinstance(pattern, tuple)]
    assert matching(pattern, PATHS, strict=False) == (matching(tuple(rest), PATHS) if rest else set())


def test_no_pattern_at_all_is_refused():
    with pytest.raises(ValueError, match=r"empty; '\*\*' names every leaf"):
        matching((), PATHS)
    with pytest.raises(ValueError, match="fits no path"):
        matching("**", [])
    assert matching("**", [], strict=False) == set()


def fits(pattern, names):
    """Name by name, as the words of `dlcore.tree` say."""
    if not pattern or not names:
        return not names and all(part == "**" for part in pattern)
    first, *others = pattern
    if first == "**":
        return fits(others, names) or fits(pattern, names[1:])
    return fnmatchcase(names[0], first) and fits(others, names[1:])


NAMES = st.text("ab_", min_size=1, max_size=2)
TREES = st.recursive(
    st.integers(0, 9).map(np.float32),
    lambda inner: st.dictionaries(NAMES | st.just("stacked"), inner, min_size=1, max_size=3),
    max_leaves=8,
).map(lambda tree: tree if isinstance(tree, dict) else {"a": tree})
PART = st.lists(NAMES | st.sampled_from(["*", "a*", "?"]), min_size=1, max_size=3)


@st.composite
def parts(draw):
    """Names and at most one `**`."""
    names = draw(PART)
    if draw(st.booleans()):
        names.insert(draw(st.integers(0, len(names))), "**")
    return draw(st.sampled_from(["", "!"])) + "/".join(names)


def expected(pattern, paths):
    chosen = set(paths) if pattern[0].startswith("!") else set()
    for part in pattern:
        found = {path for path in paths if fits(part.removeprefix("!").split("/"), path.split("/"))}
        chosen = chosen - found if part.startswith("!") else chosen | found
    return chosen


@settings(max_examples=150)
@given(tree=TREES, pattern=st.lists(parts(), min_size=1, max_size=3))
def test_partition_keeps_what_fits_and_merge_puts_it_together_again(tree, pattern):
    chosen, rest = partition(tree, tuple(pattern), strict=False)
    leaves = dict(named_leaves(tree))
    named = expected(pattern, leaves)
    assert dict(named_leaves(chosen)) == {path: leaves[path] for path in named}
    assert dict(named_leaves(rest)) == {path: leaves[path] for path in leaves.keys() - named}
    assert merge(chosen, rest) == tree == merge(rest, chosen)


@given(tree=TREES)
def test_everything_is_the_tree_itself(tree):
    assert partition(tree, "**") == (tree, {}) == (merge(tree, {}), {})
    assert partition(tree, ("**", "!**")) == ({}, tree)


def test_copies_of_layers_are_named_by_their_branch():
    tree = {
        "blocks": stacked({"dense": {"kernel": jnp.ones((3, 2, 2)), "bias": jnp.ones((3, 2))}}),
        "head": jnp.ones(2),
    }
    chosen, rest = partition(tree, "**/kernel")
    assert chosen["blocks"]["stacked"]["dense"]["kernel"].shape == (3, 2, 2)
    assert set(dict(named_leaves(rest))) == {"blocks/stacked/dense/bias", "head"}
    assert set(dict(named_leaves(partition(tree, "blocks/**")[1]))) == {"head"}


def test_what_is_no_dict_is_one_leaf():
    tree = {"layers": [jnp.ones(2), jnp.zeros(1)], "none": None, 3: {"x": 1.0}}
    chosen, rest = partition(tree, ("layers/**", "3/x"))
    assert chosen == {"layers": tree["layers"], 3: {"x": 1.0}} and rest == {"none": None}
    with pytest.raises(ValueError, match="'layers/0' fits no path; did you mean 'layers'"):
        partition(tree, "layers/0")


def test_what_both_have_is_refused():
    for one, other in (({"a": 1}, {"a": 2}), ({"a": {"b": 1}}, {"a": 1}), ({"x": {"a": 1}}, {"x": {"a": {"b": 1}}})):
        for pair in ((one, other), (other, one)):
            with pytest.raises(ValueError, match="both trees have a leaf at 'a'"):
                merge(*pair)
    assert merge({"a": {}}, {"a": {"b": 1}}) == {"a": {"b": 1}}


def test_the_gradient_of_a_part_inside_jit():
    tree = {"a": {"w": jnp.array([1.0, 2.0]), "v": jnp.array(3.0)}, "b": {"w": jnp.array([5.0, 7.0])}}

    @jax.jit
    def slope(tree):
        chosen, rest = partition(tree, "**/w")

        def product(chosen):
            whole = merge(chosen, rest)
            return whole["a"]["v"] * whole["a"]["w"] @ whole["b"]["w"]

        return jax.grad(product)(chosen)

    found = slope(tree)
    assert jax.tree.structure(found) == jax.tree.structure({"a": {"w": 0}, "b": {"w": 0}})
    np.testing.assert_array_equal(found["a"]["w"], [15, 21])
    np.testing.assert_array_equal(found["b"]["w"], [3, 6])
