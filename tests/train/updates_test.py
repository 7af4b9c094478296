"""Updates: branches, microbatches, averages, and the composed step (lecture 6, 11.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.losses.regression import squared_error
from dlcore.losses.supervised import supervised
from dlcore.nn.activation import Activation
from dlcore.nn.combine import serial
from dlcore.nn.dense import Dense
from dlcore.train.state import checksums, count_params, create, sha256
from dlcore.train.step import make_train_step
from dlcore.train.updates import ema, ema_update, gradient_update
from dlcore.types import Aux, Mean

MODEL = serial(Dense(4), Activation("tanh"), Dense(1))
BATCH = {"image": jax.random.normal(jax.random.key(0), (12, 3)), "label": jax.random.normal(jax.random.key(1), (12, 1))}
OBJECTIVE = supervised(MODEL, squared_error)


def start(tx, **options):
    return create(jax.random.key(2), lambda key: MODEL.init(key, BATCH["image"]), {"params": tx}, **options)


def same(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def test_a_step_is_plain_gradient_descent():
    state = start(optax.sgd(0.1))
    after, metrics = make_train_step(gradient_update(OBJECTIVE, optax.sgd(0.1)))(state, BATCH)
    loss = lambda p: ((MODEL.apply(p, {}, BATCH["image"])[0] - BATCH["label"]) ** 2).mean()  # noqa: E731
    same(after.params, jax.tree.map(lambda p, g: p - 0.1 * g, state.params, jax.grad(loss)(state.params)))
    np.testing.assert_allclose(metrics["loss"].value(), loss(state.params), rtol=1e-6)
    assert int(after.step) == 1 and (after.key == state.key).all()


@pytest.mark.parametrize("count", [2, 3, 12])
def test_microbatches_give_the_same_step(count):
    tx = optax.adam(0.1)
    whole, a = make_train_step(gradient_update(OBJECTIVE, tx))(start(tx), BATCH)
    parts, b = make_train_step(gradient_update(OBJECTIVE, tx, microbatches=count))(start(tx), BATCH)
    same(whole.params, parts.params, 1e-5)
    same(a, b, 1e-5)
    with pytest.raises(ValueError, match="multiple of 5"):
        make_train_step(gradient_update(OBJECTIVE, tx, microbatches=5))(start(tx), BATCH)


def test_two_branches_alternate_and_leave_each_other_alone():
    def game(params, state, batch, *, key, train):
        value = (params["one"]["w"] * params["two"]["w"]).sum()
        return value, Aux(state, {"value": Mean.of(value[None])})

    tx = optax.sgd(1.0)
    params = {"one": {"w": jnp.array([2.0])}, "two": {"w": jnp.array([3.0])}}
    state = create(jax.random.key(0), lambda key: (params, {}), {"one": tx, "two": tx})
    after, _ = make_train_step(gradient_update(game, tx, name="one"))(state, BATCH)
    assert float(after.params["one"]["w"][0]) == 2 - 3 and (after.params["two"]["w"] == 3).all()
    both, _ = make_train_step(gradient_update(game, tx, name="one"), gradient_update(game, tx, name="two"))(
        state, BATCH
    )
    assert float(both.params["two"]["w"][0]) == 3 - (-1), "the second update sees the first"
    with pytest.raises(ValueError, match="names no branch"):
        create(jax.random.key(0), lambda key: (params, {}), {"three": tx})


def test_ema_laws():
    tree, other = {"w": jnp.arange(3.0), "n": jnp.array([1, 2])}, {"w": jnp.ones(3), "n": jnp.array([5, 6])}
    same(ema(tree, other, 0.0), other)
    np.testing.assert_array_equal(ema(tree, other, 1.0)["w"], tree["w"])
    average = {"w": jnp.zeros(1)}
    for _ in range(5):
        average = ema(average, {"w": jnp.ones(1)}, 0.9)
    np.testing.assert_allclose(average["w"], 1 - 0.9**5, rtol=1e-6)


def test_ema_update_warms_up():
    tx = optax.sgd(0.1)
    step = jax.jit(make_train_step(gradient_update(OBJECTIVE, tx), ema_update(0.9)))
    state = start(tx, ema=True)
    average = state.params
    for t in range(4):
        state, _ = step(state, BATCH)
        decay = min(0.9, (1 + t) / (10 + t))
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, state.params)  # noqa: B023
    same(state.ema["params"], average)
    with pytest.raises(ValueError, match="ema=True"):
        make_train_step(ema_update(0.9))(start(tx), BATCH)


def test_an_average_that_is_frozen_does_not_move():
    tx = optax.sgd(0.1)
    for decay in (1.0, jnp.float32(1)):
        step = jax.jit(make_train_step(gradient_update(OBJECTIVE, tx), ema_update(decay)))
        before = after = start(tx, ema=True)
        for _ in range(2):
            after, _ = step(after, BATCH)
        jax.tree.map(np.testing.assert_array_equal, after.ema, before.ema)
    with pytest.raises(ValueError, match="decay"):
        ema_update(1.01)


def test_a_decay_that_is_traced_gives_the_average_of_the_number():
    tx = optax.sgd(0.1)
    average = lambda decay: make_train_step(gradient_update(OBJECTIVE, tx), ema_update(decay))  # noqa: E731
    late = start(tx, ema=True)._replace(step=jnp.int32(1000))
    traced = jax.jit(lambda decay: average(decay)(late, BATCH)[0].ema)(jnp.float32(0.7))
    same(traced, average(0.7)(late, BATCH)[0].ema)


def test_digests_tell_states_apart():
    state = start(optax.adam(0.1))
    assert sha256(state) == sha256(start(optax.adam(0.1)))
    assert count_params(state.params) == 3 * 4 + 4 + 4 + 1
    kernel = state.params["dense_0"]["kernel"]
    for change in (kernel.at[0, 0].add(1e-7), kernel[::-1], -kernel):
        other = state._replace(params={**state.params, "dense_0": {**state.params["dense_0"], "kernel": change}})
        assert sha256(other) != sha256(state)
        assert (checksums(other) != checksums(state)).sum() == 1
    swapped = state._replace(params={"x" + k: v for k, v in state.params.items()})
    assert sha256(swapped) != sha256(state), "paths count"


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "bfloat16", "float32"])
def test_checksum_sees_every_element(dtype):
    x = (jnp.arange(40) % 2).astype(dtype)
    base = int(checksums({"x": x})[0])
    for i in range(40):
        assert int(checksums({"x": x.at[i].set((1 - x[i].astype("float32")).astype(dtype))})[0]) != base
