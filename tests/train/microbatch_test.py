"""Microbatches: parts weigh what they count, penalties count once, empty parts count nothing (lecture 6.4)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.losses import activity_l1, l2, softmax_cross_entropy, squared_error, supervised
from dlcore.nn import Activation, Dense, observe, serial
from dlcore.parallel.mesh import batch_sharding, make_mesh
from dlcore.train import gradient_update
from dlcore.types import Aux, Carry, Mean

MODEL = serial(Dense(5), Activation("tanh"), Dense(3))
X, Y = jax.random.normal(jax.random.key(0), (8, 4)), jax.random.normal(jax.random.key(1), (8, 3))
LABELS = jnp.array([0, 2, 1, 2, 0, 0, 1, 2])
TX = optax.sgd(1.0)
MASKS = {
    "uneven": [1, 0, 1, 0, 1, 0, 1, 1],
    "one part empty": [1, 0, 1, 0, 1, 0, 1, 0],
    "one row": [0, 0, 0, 1, 0, 0, 0, 0],
    "nothing": [0] * 8,
    "everything": [1] * 8,
}


def gradient(objective, batch, parts, model=MODEL):
    params, state = model.init(jax.random.key(2), X)
    after, metrics = once(objective, parts, params, state, batch)
    return jax.tree.map(jnp.subtract, params, after), metrics


@functools.cache
def compiled(objective, parts):
    update = gradient_update(objective, TX, microbatches=parts)

    @jax.jit
    def apply(params, state, batch):
        carry = Carry(params, state, update.init(params, state))
        return update.apply(carry, batch, key=jax.random.key(3), step=jnp.int32(0))

    return apply


def once(objective, parts, params, state, batch):
    """Params after one update, and its metrics."""
    after, metrics = compiled(objective, parts)(params, state, batch)
    return after.params, metrics


def same_in_parts(objective, batch, model=MODEL, counts=(2, 4, 8)):
    whole, metrics = gradient(objective, batch, 1, model)
    for count in counts:
        parts, summed = gradient(objective, batch, count, model)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, parts)
        for name in metrics:
            np.testing.assert_allclose(metrics[name].value(), summed[name].value(), rtol=1e-5)
    return whole


PENALISED = supervised(MODEL, squared_error, penalty=lambda p: 0.3 * l2(p))


@pytest.mark.slow
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_parts_weigh_what_they_count(mask):
    where = jnp.asarray(mask, bool)
    batch = {"image": jnp.where(where[:, None], X, jnp.nan), "label": jnp.where(where[:, None], Y, jnp.nan)}
    whole = same_in_parts(PENALISED, {**batch, "where": where}, counts=(2, 8))

    def by_hand(params):
        rows = np.flatnonzero(mask)
        data = jnp.square(MODEL.apply(params, {}, X[rows])[0] - Y[rows]).mean() if len(rows) else 0.0
        return data + 0.3 * l2(params)

    expected = jax.jit(jax.grad(by_hand))(MODEL.init(jax.random.key(2), X)[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, expected)


@pytest.mark.slow
def test_sites_classes_and_activities_weigh_what_they_count():
    model = observe(MODEL, "activation_0")
    x = jax.random.normal(jax.random.key(4), (8, 6, 4))
    labels = jax.random.randint(jax.random.key(5), (8, 6), 0, 3).at[::2, 1:].set(255)
    objective = supervised(
        model,
        softmax_cross_entropy,
        class_weights=jnp.array([0.2, 1.0, 3.0]),
        ignore=255,
        activity=lambda found: 0.1 * jnp.abs(found["activation_0"]).sum(-1),
        penalty=lambda p: 0.3 * l2(p),
    )
    where = jax.random.uniform(jax.random.key(6), (8, 6)) < 0.5
    same_in_parts(objective, {"image": x, "label": labels, "where": where}, model, counts=(2, 8))
    rows = supervised(model, squared_error, activity=lambda found: 0.1 * activity_l1(found["activation_0"]))
    same_in_parts(rows, {"image": X, "label": Y, "where": jnp.asarray(MASKS["uneven"], bool)}, model, counts=(4,))


@pytest.mark.slow
def test_parts_of_a_batch_split_over_devices():
    objective = supervised(MODEL, softmax_cross_entropy)
    batch = {"image": X, "label": LABELS, "where": jnp.asarray(MASKS["uneven"], bool)}
    whole, _ = gradient(objective, batch, 1)
    parts, _ = gradient(objective, jax.device_put(batch, batch_sharding(make_mesh(4))), 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole, parts)


@pytest.mark.slow
def test_a_masked_batch_needs_an_objective_that_says_what_it_counts():
    def objective(params, state, batch, *, key, train, step, weight=None):
        each = jnp.square(MODEL.apply(params, state, batch["image"])[0]).sum(-1)
        counted = batch.get("where", jnp.ones(len(each), bool)).sum()
        loss = jnp.where(batch.get("where", True), each, 0.0).sum() / counted
        return loss, Aux(state, {"loss": Mean.of(each)}, counted if weight else None)

    same_in_parts(objective, {"image": X}, counts=(2,))
    batch = {"image": X, "where": jnp.asarray(MASKS["uneven"], bool)}
    with pytest.raises(ValueError, match="weight="):
        gradient(objective, batch, 2)
    same_in_parts(lambda *args, **options: objective(*args, **options, weight=True), batch, counts=(2,))


@pytest.mark.parametrize("beside", [jnp.float32(0.5), jnp.ones((3, 4))], ids=["a number", "other rows"])
def test_what_has_no_rows_cannot_be_cut_into_parts(beside):
    with pytest.raises(ValueError, match=r"first axis.*'beside': \("):
        once(PENALISED, 2, *MODEL.init(jax.random.key(2), X), {"image": X, "label": Y, "beside": beside})


def test_gradients_of_half_precision_add_up_wide():
    def objective(params, state, batch, *, key, train, step):
        return (params["w"] * batch["x"]).mean().astype(jnp.float32), Aux(state, {})

    x = jnp.concatenate([jnp.full(1, 512.0), jnp.ones(31)]).astype(jnp.bfloat16)
    after, _ = once(objective, 32, {"w": jnp.zeros((), jnp.bfloat16)}, {}, {"x": x})
    np.testing.assert_allclose(-float(after["w"]), 543 / 32, rtol=2**-8)
