"""Rates and freezing by groups of layers (lecture 18)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.optim import group_labels, layer_decay, unfreezing

GROUPS = ("stem/**", "block_1/**", "block_2/**", "block_3/**", "head/**")
PARAMS = {name.split("/")[0]: {"kernel": jnp.ones(2)} for name in GROUPS}


def test_layer_decay_scales_the_first_step_of_adam():
    tx = layer_decay(optax.adam(1.0), GROUPS, 0.5)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    found = [float(updates[name]["kernel"][0]) for name in PARAMS]
    np.testing.assert_allclose(found, [-0.0625, -0.125, -0.25, -0.5, -1], rtol=1e-5)


def test_layer_decay_scales_decoupled_weight_decay_as_a_rate_would():
    tx = layer_decay(optax.adamw(0.1, weight_decay=0.3), GROUPS, 0.5)
    by_rate = optax.adamw(0.1 * 0.5**3, weight_decay=0.3)
    ours, own = tx.init(PARAMS), by_rate.init(PARAMS["block_1"])
    params, alone = PARAMS, PARAMS["block_1"]
    for i in range(3):
        grads = jax.tree.map(lambda p: p * (i - 1.0), params)  # noqa: B023
        updates, ours = tx.update(grads, ours, params)
        one, own = by_rate.update(grads["block_1"], own, alone)
        params, alone = optax.apply_updates(params, updates), optax.apply_updates(alone, one)
    np.testing.assert_allclose(params["block_1"]["kernel"], alone["kernel"], rtol=1e-6)


def test_groups_unfreeze_in_turn_to_the_bit_and_begin_afresh():
    params = {"body": jnp.array([1.0, -0.0]), "head": jnp.array([1.0])}
    make = lambda: optax.adamw(0.1, weight_decay=0.1)  # noqa: E731
    tx = unfreezing(make(), ("body", "head"), (3, 0))
    state, seen = tx.init(params), params
    step = jax.jit(tx.update)
    for i in range(5):
        before = seen
        updates, state = step({"body": jnp.array([0.5, 0.5 - i]), "head": jnp.array([0.5])}, state, seen)
        seen = optax.apply_updates(seen, updates)
        same = np.asarray(seen["body"]).tobytes() == np.asarray(before["body"]).tobytes()
        assert same == (i < 3), i
        assert seen["head"][0] != before["head"][0]
    # The body has taken two steps of an optimiser that has taken two.
    fresh, alone = make().init(params["body"]), params["body"]
    for i in (3, 4):
        update, fresh = make().update(jnp.array([0.5, 0.5 - i]), fresh, alone)
        alone = optax.apply_updates(alone, update)
    np.testing.assert_allclose(seen["body"], alone, rtol=1e-6)


def test_groups_must_cover_all_leaves_once():
    assert group_labels(PARAMS, ("head/**", ("**", "!head/**")))["stem"]["kernel"] == 1
    with pytest.raises(ValueError, match="in no group, the first: stem/kernel"):
        group_labels(PARAMS, GROUPS[1:])
    with pytest.raises(ValueError, match="belongs to groups 0 and 1"):
        group_labels(PARAMS, ("**", "head/**"))
    with pytest.raises(ValueError, match="fits no path"):
        layer_decay(optax.sgd(1.0), ("**", "haed/**"), 0.5).init(PARAMS)
    with pytest.raises(ValueError, match=r"decay .* must lie in"):
        layer_decay(optax.sgd(1.0), GROUPS, 0.0)
    with pytest.raises(ValueError, match="one start"):
        unfreezing(optax.sgd(1.0), GROUPS, (0, 1))
