"""Params and state that are not a Linen module's own are refused by the path that differs."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
from interop.linen_test import KEY, X
from interop.trees import changed, equal

from dlcore.interop import from_linen
from dlcore.nn import compute_in


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dense(5)(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(3)(x)


MISFITS = {
    "missing branch": ("params", "Dense_1", None, "'Dense_1/bias' is missing"),
    "missing": ("params", "Dense_1/kernel", None, "'Dense_1/kernel' is missing"),
    "unexpected": ("params", "Dense_7/kernel", jnp.ones(2), "'Dense_7/kernel' is unexpected"),
    "shape": ("params", "Dense_1/kernel", jnp.ones((5, 4)), r"'Dense_1/kernel' has shape \(5, 4\).*\(5, 3\)"),
    "dtype": ("params", "Dense_1/kernel", jnp.ones((5, 3), jnp.float16), "'Dense_1/kernel' is float16.*float32"),
    "integer": ("params", "Dense_1/kernel", jnp.ones((5, 3), jnp.int32), "'Dense_1/kernel' is int32.*float32"),
    "no state": ("state", "batch_stats", None, "'batch_stats/BatchNorm_0/mean' is missing"),
    "state's shape": ("state", "batch_stats/BatchNorm_0/mean", jnp.ones(6), r"mean' has shape \(6,\).*\(5,\)"),
    "state's dtype": ("state", "batch_stats/BatchNorm_0/var", jnp.ones(5, jnp.int32), "var' is int32"),
    "state's name": ("state", "batch_stats/BatchNorm_1/var", jnp.ones(5), "BatchNorm_1/var' is unexpected"),
}


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("kind", MISFITS)
def test_params_and_state_of_another_module_are_refused(kind, train):
    which, path, leaf, message = MISFITS[kind]
    model = from_linen(Net())
    params, state = model.init(KEY, X)
    params = changed(params, path, leaf) if which == "params" else params
    state = changed(state, path, leaf) if which == "state" else state
    with pytest.raises(ValueError, match=f"{which}: .*{message}"):
        model.apply(params, state, X, train=train)


def test_mixed_precision_is_no_misfit():
    model = compute_in(from_linen(Net()), jnp.bfloat16)
    params, state = model.init(KEY, X)
    assert model.apply(params, state, X, train=True)[0].dtype == jnp.float32


def test_other_collections_are_kept():
    model = from_linen(Net())
    params, state = model.init(KEY, X)
    state = {**state, "mine": {"a": jnp.ones(2)}}
    _, new = model.apply(params, state, X, train=True)
    assert set(new) == {"batch_stats", "mine"}
    equal(new["mine"], state["mine"])
