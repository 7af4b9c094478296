"""Group axioms, and equivariance of layers for every element, before and after training (lecture 13)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.nn import (
    Activation,
    Conv,
    Dense,
    GlobalAvgPool,
    GroupConv,
    GroupLift,
    GroupPool,
    average_over,
    dihedral,
    equivariance_error,
    feature_actions,
    group_conv,
    image_actions,
    invariance_error,
    multiplication_table,
    permutations,
    reflections,
    rotations,
    serial,
    translations,
)

X = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 6, 1)), jnp.float32)
SET = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 2)), jnp.float32)
GROUPS = {
    "reflections": (reflections(), X, True),
    "rotations": (rotations(), X, True),
    "dihedral": (dihedral(), X, False),
    "translations": (translations(2, 3), X[:, :2, :3], True),
    "permutations": (permutations(list(itertools.permutations(range(3)))), SET, False),
}


@pytest.mark.parametrize("name", GROUPS)
def test_axioms(name):
    group, x, commutes = GROUPS[name]
    table, n = multiplication_table(group, x), len(group)
    order = np.arange(n)
    identity = [e for e in order if (table[e] == order).all() and (table[:, e] == order).all()]
    assert identity == [0]
    assert all(sorted(row) == list(order) for row in [*table, *table.T]), "inverses: every product is met once"
    i, j, k = np.ix_(order, order, order)
    assert (table[table[i, j], k] == table[i, table[j, k]]).all()
    assert (table == table.T).all() == commutes


def test_what_is_no_group_is_told():
    with pytest.raises(ValueError, match="is what 0 elements do"):
        multiplication_table({k: v for k, v in rotations().items() if k != "turn_270"}, X)
    with pytest.raises(ValueError, match="not an order"):
        permutations([(0, 0, 1)])
    with pytest.raises(ValueError, match="the largest output is 0"):
        invariance_error(lambda x: 0 * x, X, rotations())


@pytest.mark.slow
def test_a_convolution_is_equivariant_to_periodic_shifts_and_not_to_turns():
    layer = Conv(2, 3, padding="periodic")
    params, state = layer.init(jax.random.key(0), X)
    apply = jax.jit(lambda x: layer.apply(params, state, x)[0])
    shifts, turns = translations(6, 6), rotations()
    assert equivariance_error(apply, X, shifts, shifts) < 1e-6
    assert equivariance_error(apply, X, turns, turns) > 0.1
    assert invariance_error(lambda x: apply(x).mean((1, 2)), X, shifts) < 1e-6


def test_sets():
    group, x, _ = GROUPS["permutations"]
    weight = jnp.asarray([[1.0, 2], [3, 4]])
    assert equivariance_error(lambda x: jnp.tanh(x @ weight), x, group, group) == 0
    assert invariance_error(lambda x: jnp.tanh(x @ weight).sum(1), x, group) < 1e-6
    assert invariance_error(lambda x: jnp.tanh(x @ weight)[:, 0], x, group) > 0.1


def test_the_average_over_a_group_is_invariant():
    layer = Dense(3)
    params, _ = layer.init(jax.random.key(0), X.reshape(2, -1))
    f = lambda x: jnp.tanh(layer.apply(params, {}, x.reshape(2, -1))[0])  # noqa: E731
    assert invariance_error(f, X, dihedral()) > 0.1
    assert invariance_error(average_over(f, dihedral()), X, dihedral()) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_group_convolutions_turn_with_their_input_before_and_after_training(group):
    images, features = image_actions(group), feature_actions(group)
    body = serial(
        lift=GroupLift(3, 3, group=group), act=Activation("tanh"), conv=GroupConv(2, 5, group=group, padding="valid")
    )
    net = serial(body=body, pool=GroupPool(), mean=GlobalAvgPool(), head=Dense(2))
    params, state = jax.jit(net.init)(jax.random.key(0), X)
    tx, target = optax.adam(0.05), jnp.asarray([[1.0, -1], [-1, 1]])
    loss = lambda p: jnp.square(net.apply(p, state, X)[0] - target).mean()  # noqa: E731
    apply = jax.jit(lambda p, x: body.apply(p["body"], state.get("body", {}), x)[0])
    logits = jax.jit(lambda p, x: net.apply(p, state, x)[0])
    step = jax.jit(lambda p, s: (lambda u, s: (optax.apply_updates(p, u), s))(*tx.update(jax.grad(loss)(p), s)))
    opt, before = tx.init(params), float(loss(params))
    for stage in range(2):
        assert equivariance_error(lambda x: apply(params, x), X, images, features) < 5e-6  # noqa: B023
        assert invariance_error(lambda x: logits(params, x), X, images) < 5e-6  # noqa: B023
        for _ in range(0 if stage else 10):
            params, opt = step(params, opt)
    assert float(loss(params)) < 0.9 * before


@pytest.mark.slow
def test_group_convolutions_shift_with_their_input():
    net = serial(lift=GroupLift(2, 3, padding="periodic"), conv=GroupConv(2, 3, padding="periodic"))
    params, state = jax.jit(net.init)(jax.random.key(0), X)
    shifts = {name: act for name, act in translations(6, 6).items() if name in ("shift_0_1", "shift_1_0", "shift_4_3")}
    assert equivariance_error(jax.jit(lambda x: net.apply(params, state, x)[0]), X, shifts, shifts) < 2e-6


def test_kernels_over_the_group_start_with_the_variance_that_keeps_that_of_the_input():
    """Every output sums window² · g · c products."""
    x = jax.ShapeDtypeStruct((1, 6, 6, 8, 8), jnp.float32)
    kernel = GroupConv(8, 3, group="p4m").init(jax.random.key(0), x)[0]["kernel"]
    assert np.var(np.asarray(kernel)) == pytest.approx(1 / (9 * 8 * 8), rel=0.1)


def test_p4m_is_not_had_for_p4():
    layer = GroupLift(3, 3, group="p4")
    params, _ = layer.init(jax.random.key(0), X)
    mirror = {"mirror": lambda x: x[:, :, ::-1]}
    assert invariance_error(lambda x: layer.apply(params, {}, x)[0].max(-2).mean((1, 2)), X, mirror) > 1e-2


def test_bad_input():
    with pytest.raises(ValueError, match="p4 or p4m"):
        GroupLift(2, 3, group="p6")
    with pytest.raises(ValueError, match="p4 or p4m"):
        feature_actions("p6")
    with pytest.raises(ValueError, match="got 6×5"):
        invariance_error(lambda x: x.sum((1, 2)), X[:, :, :5], rotations())
    with pytest.raises(ValueError, match="square and odd"):
        GroupLift(2, 2).apply({"kernel": jnp.ones((2, 2, 1, 2)), "bias": jnp.zeros(2)}, {}, X)
    with pytest.raises(ValueError, match="has 4 elements"):
        group_conv(jnp.ones((1, 4, 4, 8, 1)), jnp.ones((3, 3, 4, 1, 2)), group="p4")
