"""Rules at every part: what they see, what they change, and that all else stays as it was."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import (
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    SpectralNorm,
    compose,
    compute_in,
    freeze_statistics,
    intercepted,
    residual,
    scan,
    serial,
    starting_at,
)
from dlcore.train import ensemble

X = jax.random.normal(jax.random.key(0), (4, 3))
BLOCK = serial(Dense(3), Dropout(0.5), BatchNorm())
NET = serial(
    first=residual(BLOCK),
    low=compute_in(serial(Dense(3), Activation("tanh")), jnp.float32),
    copies=scan(BLOCK, 2),
    twice=compose(lambda call, x: call("d", call("d", x)), d=serial(Dense(3), Dropout(0.3))),
)


def plain(path, part, inputs, proceed):
    return proceed(*inputs)


def doubled(path, part, inputs, proceed):
    return 2 * proceed(*inputs) if part.kind == "dense" else proceed(*inputs)


def shifted(path, part, inputs, proceed):
    return proceed(*inputs) + 1 if part.kind == "dense" else proceed(*inputs)


@dataclass(frozen=True)
class Scaled:
    """A rule with a setting, compared by value."""

    kind: str
    factor: float

    def __call__(self, path, part, inputs, proceed):
        return self.factor * proceed(*inputs) if part.kind == self.kind else proceed(*inputs)


def started(model, x=X):
    return model.init(jax.random.key(1), x)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_rule_sees_every_call_with_its_path_kind_and_inputs():
    seen = []

    def note(path, part, inputs, proceed):
        seen.append((path, part.kind, [x.shape for x in inputs]))
        return proceed(*inputs)

    model = serial(
        residual(Dense(3)),
        compute_in(serial(Dense(3)), jnp.bfloat16),
        scan(serial(Dense(3)), 2, unroll=False),
        compose(lambda call, x: call("d", call("d", x)), d=serial(Dense(3))),
        ensemble(serial(Dense(1)), 2),
    )
    intercepted(model, note).apply(*started(model), X)
    assert [(path, kind) for path, kind, _ in seen] == [
        ("residual_0", "residual"),
        ("residual_0/body", "dense"),
        ("serial_0", "serial"),
        ("serial_0/dense_0", "dense"),
        ("scan_0", "scan"),
        ("scan_0/0", "serial"),
        ("scan_0/0/dense_0", "dense"),
        ("scan_0/1", "serial"),
        ("scan_0/1/dense_0", "dense"),
        ("block_0", "block"),
        ("block_0/d", "serial"),
        ("block_0/d/dense_0", "dense"),
        ("block_0/d:1", "serial"),
        ("block_0/d:1/dense_0", "dense"),
        ("ensemble_0", "ensemble"),
    ]
    assert all(shapes == [(4, 3)] for *_, shapes in seen)


@pytest.mark.parametrize("train", [False, True])
def test_a_rule_that_only_proceeds_changes_no_bit_of_outputs_state_and_draws(train):
    params, state = started(NET)
    key = jax.random.key(5) if train else None
    model = intercepted(intercepted(NET, plain), plain)
    assert model.init is NET.init and model.kind == NET.kind
    equal(model.apply(params, state, X, train=train, key=key), NET.apply(params, state, X, train=train, key=key))


def test_the_innermost_rule_is_nearest_to_the_part():
    model = serial(Dense(3, bias=False))
    params, state = started(model)
    y = np.asarray(X, np.float64) @ np.asarray(params["dense_0"]["kernel"], np.float64)
    near = intercepted(intercepted(model, doubled), shifted).apply(params, state, X)[0]
    far = intercepted(intercepted(model, shifted), doubled).apply(params, state, X)[0]
    np.testing.assert_allclose(near, 2 * y + 1, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(far, 2 * (y + 1), rtol=1e-5, atol=1e-5)


def test_rules_of_a_part_keep_their_own_paths_inside_of_another_rule():
    own, whole = [], []

    def note(into):
        return lambda path, part, inputs, proceed: (into.append(path), proceed(*inputs))[1]

    model = serial(a=intercepted(serial(Dense(3)), note(own)), b=intercepted(SpectralNorm(serial(Dense(3))), note(own)))
    params, state = started(model)
    own.clear()
    intercepted(model, note(whole)).apply(params, state, X)
    assert own == ["dense_0", "dense_0"]
    assert whole == ["a", "a/dense_0", "b", "b/dense_0"]


def test_a_part_may_be_left_out_and_then_keeps_its_state():
    def without_first(path, part, inputs, proceed):
        return inputs[0] if path == "batch_norm_0" else proceed(*inputs)

    model = serial(BatchNorm(), BatchNorm())
    params, state = started(model)
    out, new = intercepted(model, without_first).apply(params, state, X, train=True)
    expected = (X - np.mean(X, 0)) / np.sqrt(np.var(X, 0) + 1e-5)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    equal(new["batch_norm_0"], state["batch_norm_0"])
    assert (new["batch_norm_1"]["mean"] != state["batch_norm_1"]["mean"]).all()


def test_equal_rules_make_equal_models_which_do_not_retrace():
    model = serial(Dense(3))
    params, state = started(model)
    traces = []

    def apply(model, params):
        traces.append(model)
        return model.apply(params, state, X)[0]

    compiled = jax.jit(apply, static_argnums=0)
    for rule in (lambda: plain, lambda: Scaled("dense", 2.0)):
        one, two = (intercepted(model, rule()) for _ in range(2))
        assert one == two and hash(one) == hash(two) and one != model
        equal(compiled(one, params), compiled(two, params))
    assert len(traces) == 2
    assert intercepted(model, Scaled("dense", 2.0)) != intercepted(model, Scaled("dense", 3.0))


def test_a_single_layer_has_no_parts():
    with pytest.raises(ValueError, match=r"'dense'.*serial\(model\)"):
        intercepted(Dense(1), plain)


@pytest.mark.parametrize(
    "norm", [BatchNorm, lambda: starting_at(BatchNorm()), lambda: compute_in(BatchNorm(), jnp.float32)]
)
def test_frozen_statistics_stay_and_are_used_while_dropout_is_on(norm):
    model = serial(norm(), Dropout(0.5))
    params, state = started(model)
    state = jax.tree.map(lambda leaf: leaf + 0.5, state)
    frozen = freeze_statistics(model)
    out, new = frozen.apply(params, state, X, train=True, key=jax.random.key(3))
    equal(new, state)
    mean, variance = (np.asarray(state["batch_norm_0"][name], np.float64) for name in ("mean", "variance"))
    normed = (np.asarray(X, np.float64) - mean) / np.sqrt(variance + 1e-5)
    out = np.asarray(out)
    assert 0 < (out == 0).mean() < 1, "some are dropped"
    np.testing.assert_allclose(out[out != 0], 2 * normed[out != 0], rtol=1e-5)
    assert jax.tree.leaves(model.apply(params, state, X, train=True, key=jax.random.key(3))[1])[0][0] != 0.5


def test_frozen_statistics_deep_inside_while_weights_have_gradients():
    params, state = started(NET)
    frozen, key = freeze_statistics(NET), jax.random.key(4)

    def loss(params):
        out, new = frozen.apply(params, state, X, train=True, key=key)
        return jnp.square(out).sum(), new

    gradient, new = jax.grad(loss, has_aux=True)(params)
    equal(new, state)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


@jax.custom_vjp
def only_positive(y):
    """The identity, through which negative gradients do not pass."""
    return y


only_positive.defvjp(lambda y: (y, None), lambda _, cotangent: (jnp.maximum(cotangent, 0),))


def guided(path, part, inputs, proceed):
    """Guided backpropagation (Springenberg et al. 2015): the identity behind each activation has its own gradient."""
    return only_positive(proceed(*inputs)) if part.kind == "activation" else proceed(*inputs)


def test_guided_backpropagation_is_the_backward_pass_by_hand():
    def forward(call, x):
        return call("w3", call("relu", call("w2", call("relu", call("w1", x)))))[:, 0]

    model = compose(forward, w1=Dense(6), w2=Dense(5), w3=Dense(1), relu=Activation("relu"))
    params, state = started(model)
    apply = intercepted(model, guided).apply
    found = jax.grad(lambda x: apply(params, state, x)[0].sum())(X)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    a1 = np.asarray(X, np.float64) @ weights["w1"]["kernel"] + weights["w1"]["bias"]
    a2 = np.maximum(a1, 0) @ weights["w2"]["kernel"] + weights["w2"]["bias"]
    g2 = np.broadcast_to(weights["w3"]["kernel"][:, 0], a2.shape)
    g1 = np.maximum(g2, 0) * (a2 > 0) @ weights["w2"]["kernel"].T
    expected = np.maximum(g1, 0) * (a1 > 0) @ weights["w1"]["kernel"].T
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    ordinary = (g2 * (a2 > 0)) @ weights["w2"]["kernel"].T * (a1 > 0) @ weights["w1"]["kernel"].T
    assert np.abs(ordinary - expected).max() > 0.05, "here it differs from the gradient"
    equal(apply(params, state, X)[0], model.apply(params, state, X)[0])
