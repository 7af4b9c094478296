"""What every `Model` owes, over the whole table; a model is started and compiled once for all of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract_table import MODELS


class Made(NamedTuple):
    """A model with its start, an input and its passes as compiled programs."""

    params: Any
    state: Any
    x: jax.Array
    init: Callable
    """`x -> (params, state)`"""
    train: Callable
    """`(params, state, x, key) -> (outputs, state)`"""
    test: Callable
    """`(params, state, x) -> (outputs, state)`"""


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS.keys())
def case(request):
    return request.param


@pytest.fixture(scope="module")
def made(case):
    model, rng = case.model, np.random.default_rng(0)
    x = rng.integers(0, 11, case.input, np.int32) if case.integer else rng.standard_normal(case.input, np.float32)
    init = jax.jit(lambda x: model.init(jax.random.key(1), x))
    train = jax.jit(lambda p, s, x, key: model.apply(p, s, x, train=True, key=key))
    return Made(*init(x), jnp.asarray(x), init, train, jax.jit(model.apply))


KEY = jax.random.key(2)


@pytest.mark.sampled
def test_shapes_without_computing(case):
    x = jax.ShapeDtypeStruct(case.input, jnp.int32 if case.integer else jnp.float32)
    params, state = jax.eval_shape(case.model.init, jax.random.key(0), x)
    run = lambda p, s, x: case.model.apply(p, s, x, train=True, key=KEY)  # noqa: E731
    out, after = jax.eval_shape(run, params, state, x)
    assert out.shape == case.output and out.dtype == jnp.float32
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), state)


@pytest.mark.sampled
def test_init_uses_only_shape_and_dtype(made):
    found = made.init(jnp.zeros_like(made.x))
    jax.tree.map(np.testing.assert_array_equal, found, (made.params, made.state))


@pytest.mark.sampled
@pytest.mark.parametrize("train", [False, True])
def test_jit_equals_eager(case, made, train):
    params, state, x = made[:3]
    eager = case.model.apply(params, state, x, train=train, key=KEY if train else None)
    jitted = made.train(params, state, x, KEY) if train else made.test(params, state, x)
    # A bfloat16 computation may be rounded at other places when it is compiled as a whole.
    tolerance = 2e-2 if case is MODELS["bfloat16"] else 2e-5
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), eager, jitted)


@pytest.mark.sampled
def test_gradients_are_finite(case, made):
    params, state, x = made[:3]
    loss = lambda p, x: (made.train(p, state, x, KEY)[0] ** 2).sum()  # noqa: E731
    grads = jax.jit(jax.grad(loss, argnums=0 if case.integer else (0, 1)))(params, x)
    assert all(np.isfinite(np.asarray(g, np.float32)).all() for g in jax.tree.leaves(grads))


@pytest.mark.sampled
def test_state_changes_only_in_training(made):
    params, state, x = made[:3]
    jax.tree.map(np.testing.assert_array_equal, state, made.test(params, state, x)[1])
    new = made.train(params, state, x, KEY)[1]
    if jax.tree.leaves(state):
        leaves = zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True)
        assert any((np.asarray(a) != np.asarray(b)).any() for a, b in leaves)


@pytest.mark.sampled
def test_keys(case, made):
    params, state, x = made[:3]
    apply = case.model.apply
    if not case.stochastic:
        without = jax.jit(lambda p, s, x: apply(p, s, x, train=True))(params, state, x)[0]
        return np.testing.assert_array_equal(without, made.train(params, state, x, KEY)[0])
    with pytest.raises(ValueError, match="key"):
        jax.eval_shape(lambda p, s, x: apply(p, s, x, train=True), params, state, x)
    first, again, other = (np.asarray(made.train(params, state, x, jax.random.key(k))[0]) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    with_key = jax.jit(lambda p, s, x, key: apply(p, s, x, train=False, key=key))(params, state, x, KEY)[0]
    np.testing.assert_array_equal(with_key, made.test(params, state, x)[0])


@pytest.mark.sampled
def test_one_device_equals_eight(case, made):
    params, state, x = made[:3]
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    one, eight = made.train(params, state, x, KEY), made.train(params, state, split, KEY)
    tolerance = 2e-2 if case is MODELS["bfloat16"] else 1e-5
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), one, eight)
