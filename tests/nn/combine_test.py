"""Combinators: shared weights, names, paths, taps, and scan against serial."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.keys import fold_name
from dlcore.nn import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    activations,
    compose,
    compute_in,
    concat,
    identity,
    residual,
    scan,
    serial,
    tapped,
)

X = jax.random.normal(jax.random.key(0), (4, 3))


def test_serial_is_the_composition():
    model = serial(Dense(5), Activation("tanh"), Dense(2))
    params, state = model.init(jax.random.key(1), X)
    assert list(params) == ["dense_0", "dense_1"] and state == {}
    first, second = params["dense_0"], params["dense_1"]
    expected = np.tanh(X @ first["kernel"] + first["bias"]) @ second["kernel"] + second["bias"]
    np.testing.assert_allclose(model.apply(params, state, X)[0], expected, rtol=1e-5, atol=1e-6)


def test_calling_a_part_twice_shares_one_leaf_and_sums_the_gradient():
    def forward(call, x):
        return call("mix", jnp.tanh(call("mix", x)))

    model = compose(forward, mix=Dense(3))
    params, _ = model.init(jax.random.key(1), X)
    assert jax.tree.structure(params) == jax.tree.structure({"mix": {"kernel": 0, "bias": 0}})
    shared = jax.grad(lambda p: model.apply(p, {}, X)[0].sum())(params)["mix"]["kernel"]

    def twice(w1, w2, b):
        return (jnp.tanh(X @ w1 + b) @ w2 + b).sum()

    w, b = params["mix"]["kernel"], params["mix"]["bias"]
    one, two = jax.grad(twice, argnums=(0, 1))(w, w, b)
    np.testing.assert_allclose(shared, one + two, rtol=1e-5, atol=1e-6)


def test_state_passes_through_repeated_calls():
    model = compose(lambda call, x: call("norm", call("norm", x)), norm=BatchNorm(momentum=0.5))
    params, state = model.init(jax.random.key(1), X)
    _, new = model.apply(params, state, X, train=True)
    first = 0.5 * 0 + 0.5 * np.asarray(X).mean(0)
    np.testing.assert_allclose(new["norm"]["mean"], 0.5 * first, atol=1e-6)


def test_adding_a_part_leaves_the_others_alone():
    def small(call, x):
        return call("a", x)

    def large(call, x):
        return call("a", x) + call("b", x)

    key = jax.random.key(7)
    one, _ = compose(small, a=Dense(2)).init(key, X)
    two, _ = compose(large, b=Dense(2), a=Dense(2)).init(key, X)
    np.testing.assert_array_equal(one["a"]["kernel"], two["a"]["kernel"])
    assert (two["a"]["kernel"] != two["b"]["kernel"]).any()


def test_several_inputs_and_any_graph():
    def forward(call, x, t):
        e = call("time", t)
        return call("out", jnp.concatenate([call("in", x) + e, x], axis=-1))

    model = compose(forward, **{"in": Dense(4), "time": Dense(4), "out": Dense(1)})
    params, state = model.init(jax.random.key(0), X, X[:, :2])
    assert params["out"]["kernel"].shape == (7, 1)
    assert model.apply(params, state, X, X[:, :2])[0].shape == (4, 1)


def test_unknown_part_is_named():
    with pytest.raises(ValueError, match=r"'mid'.*\['end'\]"):
        compose(lambda call, x: call("mid", x), end=identity()).init(jax.random.key(0), X)


def test_residual_and_concat():
    model = residual(Dense(3))
    params, _ = model.init(jax.random.key(0), X)
    body = X @ params["body"]["kernel"] + params["body"]["bias"]
    np.testing.assert_allclose(model.apply(params, {}, X)[0], X + body, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="shortcut"):
        residual(Dense(5)).init(jax.random.key(0), X)
    both = concat(identity(), Dense(2))
    params, _ = both.init(jax.random.key(0), X)
    np.testing.assert_array_equal(both.apply(params, {}, X)[0][:, :3], X)


def test_every_activation_by_path():
    block = serial(Dense(3), Activation("relu"))
    model = serial(first=block, twice=compose(lambda call, x: call("d", call("d", x)), d=Dense(3)), last=Dense(1))
    params, state = model.init(jax.random.key(0), X)
    out, found = activations(model, params, state, X)
    assert list(found) == ["first/dense_0", "first/activation_0", "first", "twice/d", "twice/d:1", "twice", "last"]
    np.testing.assert_array_equal(found["last"], out)
    np.testing.assert_array_equal(found["first"], np.maximum(found["first/dense_0"], 0))
    with pytest.raises(ValueError, match="no parts"):
        activations(Dense(1), *Dense(1).init(jax.random.key(0), X), X)


def test_gradient_at_an_activation_through_a_tap():
    model = serial(Dense(3), Activation("tanh"), Dense(1))
    params, state = model.init(jax.random.key(0), X)

    def loss(extra):
        tap = lambda path, h: h + extra if path == "activation_0" else h  # noqa: E731
        return tapped(model, tap, params, state, X)[0].sum()

    gradient = jax.grad(loss)(jnp.zeros((4, 3)))
    np.testing.assert_allclose(gradient, np.broadcast_to(params["dense_1"]["kernel"][:, 0], (4, 3)), rtol=1e-6)


@pytest.mark.parametrize("train", [False, True])
def test_scan_equals_its_copies_keys_and_state_included(train):
    block = serial(Dense(3), BatchNorm(), Dropout(0.3))
    loop, unrolled = scan(block, 4, unroll=False), scan(block, 4, unroll=True)
    params, state = loop.init(jax.random.key(0), X)
    assert params["stacked"]["dense_0"]["kernel"].shape == (4, 3, 3)
    key = jax.random.key(5) if train else None
    a, state_a = loop.apply(params, state, X, train=train, key=key)
    b, state_b = unrolled.apply(params, state, X, train=train, key=key)
    x, states = X, []
    for i in range(4):
        layer = jax.tree.map(lambda leaf: leaf[i], (params["stacked"], state["stacked"]))  # noqa: B023
        x, new = block.apply(*layer, x, train=train, key=None if key is None else fold_name(key, str(i)))
        states.append(new)
    expected = {"stacked": jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)}
    for out, new in ((a, state_a), (b, state_b)):
        np.testing.assert_allclose(out, x, rtol=1e-5, atol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), new, expected)


def test_scan_compiles_the_block_once():
    block = serial(Dense(3), Activation("tanh"))
    sizes = []
    for length in (2, 20):
        model = scan(block, length, unroll=False)
        params, state = model.init(jax.random.key(0), X)
        sizes.append(len(jax.jit(model.apply).lower(params, state, X).as_text().splitlines()))
    assert sizes[1] < 1.1 * sizes[0]
    with pytest.raises(ValueError, match="shape"):
        scan(Dense(4), 2).init(jax.random.key(0), X)


@pytest.mark.slow
def test_mixed_precision_computes_low_and_stores_high():
    seen = []
    spy = Activation(lambda x: seen.append(x.dtype) or x)
    model = compute_in(serial(Conv(4, 3), spy, BatchNorm()), jnp.bfloat16)
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 2))
    params, state = model.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, state))} == {jnp.dtype("float32")}
    grads = jax.grad(lambda p: model.apply(p, state, x, train=True)[0].sum())(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    assert seen[-1] == jnp.bfloat16
    out, new = model.apply(params, state, x, train=True)
    assert out.dtype == jnp.float32 and new["batch_norm_0"]["mean"].dtype == jnp.float32
    assert list(activations(model, params, state, x)[1]) == ["conv_0", "activation_0", "batch_norm_0"]
