"""A trained network as the start of another: heads are swapped, what is frozen stays to the bit (lecture 18)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.losses import squared_error, supervised
from dlcore.nn import BatchNorm, Conv, Dense, GlobalAvgPool, freeze_statistics, serial
from dlcore.train import create, gradient_update, make_train_step, swapped
from dlcore.types import Aux


def test_a_frozen_batch_norm_uses_its_statistics_and_keeps_them():
    norm = serial(norm=BatchNorm())
    params, state = norm.init(jax.random.key(0), jnp.zeros((2, 1)))
    found, new = freeze_statistics(norm).apply(params, state, jnp.array([[10.0], [12.0]]), train=True)
    np.testing.assert_allclose(found[:, 0], [9.99995, 11.99994], rtol=1e-6)
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (state, new)), strict=True))
    _, moved = norm.apply(params, state, jnp.array([[10.0], [12.0]]), train=True)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (state, moved)), strict=True))


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_a_frozen_weight_does_not_decay():
    def objective(params, state, batch, *, key, train, step=None):
        return (params["w"] * params["v"] * batch["x"]).mean(), Aux(state, {})

    params = {"w": jnp.ones(()), "v": jnp.ones(())}
    for only, expected in (("v", 1.0), ("**", None)):
        update = gradient_update(objective, optax.adamw(0.1, weight_decay=0.1), only=only)
        step = jax.jit(make_train_step(update))
        train_state = create(jax.random.key(0), lambda key: (params, {}), update)
        for _ in range(10):
            train_state, _ = step(train_state, {"x": jnp.zeros(3)})
        w = float(train_state.params["w"])
        assert w == 1.0 if expected else abs(w - 0.904382) < 1e-5


def network(outputs):
    return serial(stem=serial(Conv(4, 3, bias=False), BatchNorm()), pool=GlobalAvgPool(), head=serial(Dense(outputs)))


@pytest.mark.slow
def test_a_linear_probe_moves_the_head_alone():
    model, x = network(3), jax.random.normal(jax.random.key(1), (8, 5, 5, 1))
    batch = {"image": x, "label": jnp.ones((8, 3))}
    for keep in (True, False):
        frozen = freeze_statistics(model) if keep else model
        objective = supervised(frozen, lambda y, t: squared_error(y, t).sum(-1))
        update = gradient_update(objective, optax.adamw(0.1, weight_decay=0.1), only="head/**")
        start = create(jax.random.key(0), lambda key: model.init(key, x), update)
        step, end = jax.jit(make_train_step(update)), start
        for _ in range(3):
            end, _ = step(end, batch)
        assert bits(start.params["stem"]) == bits(end.params["stem"])
        assert bits(start.params["head"]) != bits(end.params["head"])
        # With `only` alone running statistics still move.
        assert (bits(start.state) == bits(end.state)) == keep


def test_a_swapped_head_is_fresh_and_the_rest_is_what_was_learnt():
    x = jnp.zeros((1, 5, 5, 1))
    old, fresh = network(7).init(jax.random.key(0), x), network(3).init(jax.random.key(1), x)
    params, state = (swapped(a, b, "head/**") for a, b in zip(old, fresh, strict=True))
    assert bits(params["stem"]) == bits(old[0]["stem"]) and bits(params["head"]) == bits(fresh[0]["head"])
    assert bits(state) == bits(old[1])
    assert jax.tree.structure(params) == jax.tree.structure(fresh[0])


def test_another_network_is_refused_by_name():
    x = jnp.zeros((1, 5, 5, 1))
    old, fresh = network(7).init(jax.random.key(0), x)[0], network(3).init(jax.random.key(1), x)[0]
    with pytest.raises(ValueError, match=r"2 leaves: head/dense_0/bias is \[7\], wanted \[3\]"):
        swapped(old, fresh, "stem/conv_0/**")
    other = serial(stem=serial(Conv(6, 3, bias=False), BatchNorm())).init(jax.random.key(0), x)[0]
    with pytest.raises(ValueError, match=r"stem/conv_0/kernel is \[3, 3, 1, 6\], wanted \[3, 3, 1, 4\]"):
        swapped(other, fresh, "head/**")
    with pytest.raises(ValueError, match="stem/conv_0/kernel is missing"):
        swapped({"stem": {}}, fresh, "head/**")
    with pytest.raises(ValueError, match="extra is left over"):
        swapped({**old, "extra": jnp.ones(1)}, fresh, "head/**")
