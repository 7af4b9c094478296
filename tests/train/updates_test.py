"""Updates: branches, microbatches, averages, and the composed step (lecture 6, 11.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.losses import squared_error, supervised
from dlcore.nn import Activation, Dense, serial
from dlcore.train import (
    chain,
    checksums,
    count_params,
    create,
    ema,
    ema_update,
    gradient_update,
    make_train_step,
    repeated,
    reported,
    sha256,
    view_of,
    with_average,
)
from dlcore.tree import named_leaves
from dlcore.types import Aux, Carry, Mean, Update, View

MODEL = serial(Dense(4), Activation("tanh"), Dense(1))
BATCH = {"image": jax.random.normal(jax.random.key(0), (12, 3)), "label": jax.random.normal(jax.random.key(1), (12, 1))}
OBJECTIVE = supervised(MODEL, squared_error)


def start(update):
    return create(jax.random.key(2), lambda key: MODEL.init(key, BATCH["image"]), update)


def averaged(tx, decay):
    return with_average(gradient_update(OBJECTIVE, tx), decay)


def same(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


@pytest.mark.slow
def test_a_step_is_plain_gradient_descent():
    update = gradient_update(OBJECTIVE, optax.sgd(0.1))
    state = start(update)
    after, metrics = make_train_step(update)(state, BATCH)
    loss = lambda p: ((MODEL.apply(p, {}, BATCH["image"])[0] - BATCH["label"]) ** 2).mean()  # noqa: E731
    same(after.params, jax.tree.map(lambda p, g: p - 0.1 * g, state.params, jax.grad(loss)(state.params)))
    np.testing.assert_allclose(metrics["loss"].value(), loss(state.params), rtol=1e-6)
    assert int(after.step) == 1 and (after.key == state.key).all()


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 12])
def test_microbatches_give_the_same_step(count):
    tx = optax.adam(0.1)
    state = start(gradient_update(OBJECTIVE, tx))
    whole, a = make_train_step(gradient_update(OBJECTIVE, tx))(state, BATCH)
    parts, b = make_train_step(gradient_update(OBJECTIVE, tx, microbatches=count))(state, BATCH)
    same(whole.params, parts.params, 1e-5)
    same(a, b, 1e-5)
    with pytest.raises(ValueError, match="multiple of 5"):
        make_train_step(gradient_update(OBJECTIVE, tx, microbatches=5))(state, BATCH)


def game(params, state, batch, *, key, train, step):
    value = (params["one"]["w"] * params["two"]["w"]).sum()
    return value, Aux(state, {"value": Mean.of(value[None])})


PLAYERS = {"one": {"w": jnp.array([2.0])}, "two": {"w": jnp.array([3.0])}}


def players(update):
    return create(jax.random.key(0), lambda key: (PLAYERS, {}), update)


def test_two_branches_alternate_and_leave_each_other_alone():
    one, two = (gradient_update(game, optax.sgd(1.0), only=f"{name}/**") for name in ("one", "two"))
    after, _ = make_train_step(one)(players(one), BATCH)
    assert float(after.params["one"]["w"][0]) == 2 - 3 and (after.params["two"]["w"] == 3).all()
    both, metrics = make_train_step(chain(a=one, b=two))(players(chain(a=one, b=two)), BATCH)
    assert float(both.params["two"]["w"][0]) == 3 - (-1), "the second update sees the first"
    assert float(metrics["a/value"].value()) == 6 and float(metrics["b/value"].value()) == -3
    with pytest.raises(ValueError, match="fits no path"):
        players(gradient_update(game, optax.sgd(1.0), only="three/**"))
    with pytest.raises(ValueError, match="at least one update"):
        chain()


def test_an_update_remembers_for_what_it_trains_only():
    update = gradient_update(OBJECTIVE, optax.adam(0.1), only=("**", "!**/bias"))
    state = start(update)
    moments = [path for path, _ in named_leaves(state.memory) if "mu" in path]
    assert len(moments) == 2 and all(path.endswith("kernel") for path in moments)
    after, _ = jax.jit(make_train_step(update))(state, BATCH)
    for path, leaf in named_leaves(after.params):
        moved = (leaf != dict(named_leaves(state.params))[path]).any()
        assert moved == path.endswith("kernel"), path


def test_repeating_shares_one_memory_and_draws_anew():
    def noisy(params, state, batch, *, key, train, step):
        return (params["w"] * jax.random.normal(key)).sum(), Aux(state, {"t": Mean.of(jnp.float32(step)[None])})

    update = repeated(gradient_update(noisy, optax.sgd(1.0, momentum=0.5)), 3)
    state = create(jax.random.key(0), lambda key: ({"w": jnp.zeros(1)}, {}), update)
    carry = Carry(state.params, state.state, state.memory)
    (after, _, memory), metrics = update.apply(carry, BATCH, key=jax.random.key(5), step=jnp.int32(7))
    w, velocity = 0.0, 0.0
    for i in range(3):
        velocity = 0.5 * velocity + float(jax.random.normal(jax.random.fold_in(jax.random.key(5), i)))
        w -= velocity
    np.testing.assert_allclose(after["w"], [w], rtol=1e-5)
    np.testing.assert_allclose(jax.tree.leaves(memory)[0], [velocity], rtol=1e-5)
    assert float(metrics["t"].value()) == 7 and float(metrics["t"].count) == 3
    with pytest.raises(ValueError, match="at least 1"):
        repeated(update, 0)


def test_a_report_is_the_decayed_mean_from_the_first_step_on():
    values = np.random.default_rng(0).uniform(size=40).astype(np.float32)

    def apply(carry, batch, *, key, step):
        return carry, {"value": Mean.of(batch["x"])}

    update = reported(Update(lambda params, state: {}, apply), "value", decay=0.9)
    state = create(jax.random.key(0), lambda key: ({}, {}), update)
    step = jax.jit(make_train_step(update))
    assert np.isnan(view_of(update, state).report["value"].value())
    for t, value in enumerate(values, 1):
        state, _ = step(state, {"x": jnp.full(3, value)})
        if t in (1, 2, 40):
            weights = 0.9 ** np.arange(t)[::-1]
            expected = weights @ values[:t] / weights.sum()
            np.testing.assert_allclose(view_of(update, state).report["value"].value(), expected, rtol=1e-5)


def test_ema_laws():
    tree, other = {"w": jnp.arange(3.0), "n": jnp.array([1, 2])}, {"w": jnp.ones(3), "n": jnp.array([5, 6])}
    same(ema(tree, other, 0.0), other)
    np.testing.assert_array_equal(ema(tree, other, 1.0)["w"], tree["w"])
    average = {"w": jnp.zeros(1)}
    for _ in range(5):
        average = ema(average, {"w": jnp.ones(1)}, 0.9)
    np.testing.assert_allclose(average["w"], 1 - 0.9**5, rtol=1e-6)


def test_ema_update_warms_up():
    update = averaged(optax.sgd(0.1), 0.9)
    step, state = jax.jit(make_train_step(update)), start(update)
    average = state.params
    for t in range(4):
        state, _ = step(state, BATCH)
        decay = min(0.9, (1 + t) / (10 + t))
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, state.params)  # noqa: B023
    same(view_of(update, state).params, average)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(average), jax.tree.leaves(state.params), strict=True))


def test_what_is_not_averaged_is_seen_as_it_is():
    update = chain(gradient=gradient_update(OBJECTIVE, optax.sgd(0.1)), ema=ema_update(0.9, only="dense_0/**"))
    state = start(update)
    for _ in range(3):
        state, _ = make_train_step(update)(state, BATCH)
    seen = view_of(update, state).params
    for path, leaf in named_leaves(state.params):
        assert (leaf == dict(named_leaves(seen))[path]).all() == path.startswith("dense_1"), path
    assert jax.tree.structure(seen) == jax.tree.structure(state.params)


def test_an_average_that_is_frozen_does_not_move():
    for decay in (1.0, jnp.float32(1)):
        update = averaged(optax.sgd(0.1), decay)
        step = jax.jit(make_train_step(update))
        before = after = start(update)
        for _ in range(2):
            after, _ = step(after, BATCH)
        jax.tree.map(np.testing.assert_array_equal, after.memory["ema"], before.memory["ema"])
    with pytest.raises(ValueError, match="decay"):
        ema_update(1.01)


def test_an_average_of_half_precision_moves_by_less_than_its_digits():
    update = ema_update(0.999, warmup=False)
    params = {"w": jnp.ones(2, jnp.bfloat16), "count": jnp.array(3)}
    memory, moved = update.init(params, {}), {"w": jnp.full(2, 3, jnp.bfloat16), "count": jnp.array(4)}
    carry = Carry(moved, {}, memory)
    for i in range(100):
        carry, _ = update.apply(carry, {}, key=jax.random.key(0), step=jnp.int32(i))
    seen = update.view(carry.memory, View(moved, {}, {})).params
    np.testing.assert_allclose(carry.memory["params"]["w"], 3 - 2 * 0.999**100, rtol=1e-5)
    assert seen["w"].dtype == jnp.bfloat16 and float(seen["w"][0]) == pytest.approx(3 - 2 * 0.999**100, rel=4e-3)
    assert int(seen["count"]) == 4


def test_a_decay_that_is_traced_gives_the_average_of_the_number():
    late = start(averaged(optax.sgd(0.1), 0.7))._replace(step=jnp.int32(1000))
    after = lambda decay: make_train_step(averaged(optax.sgd(0.1), decay))(late, BATCH)[0].memory["ema"]  # noqa: E731
    same(jax.jit(after)(jnp.float32(0.7)), after(0.7))


def test_digests_tell_states_apart():
    update = gradient_update(OBJECTIVE, optax.adam(0.1))
    state = start(update)
    assert sha256(state) == sha256(start(update))
    assert count_params(state.params) == 3 * 4 + 4 + 4 + 1
    kernel = state.params["dense_0"]["kernel"]
    for change in (kernel.at[0, 0].add(1e-7), kernel[::-1], -kernel):
        other = state._replace(params={**state.params, "dense_0": {**state.params["dense_0"], "kernel": change}})
        assert sha256(other) != sha256(state)
        assert (checksums(other) != checksums(state)).sum() == 1
    swapped = state._replace(params={"x" + k: v for k, v in state.params.items()})
    assert sha256(swapped) != sha256(state), "paths count"


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "bfloat16", "float32"])
def test_checksum_sees_every_element(dtype):
    x = (jnp.arange(40) % 2).astype(dtype)
    base = int(checksums({"x": x})[0])
    for i in range(40):
        assert int(checksums({"x": x.at[i].set((1 - x[i].astype("float32")).astype(dtype))})[0]) != base
