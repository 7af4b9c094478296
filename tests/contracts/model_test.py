"""What every `Model` owes, over the whole table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract_table import MODELS

CASES = pytest.mark.parametrize("case", MODELS.values(), ids=MODELS.keys())


def sample(case, key=0):
    if case.integer:
        return jax.random.randint(jax.random.key(key), case.input, 0, 11)
    return jax.random.normal(jax.random.key(key), case.input)


def made(case):
    return case.model.init(jax.random.key(1), sample(case))


def run(case, params, state, x, *, train=False, key=2):
    return case.model.apply(params, state, x, train=train, key=jax.random.key(key) if train else None)


@CASES
def test_shapes_without_computing(case):
    x = jax.ShapeDtypeStruct(case.input, jnp.int32 if case.integer else jnp.float32)
    params, state = jax.eval_shape(case.model.init, jax.random.key(0), x)
    out, after = jax.eval_shape(lambda p, s, x: run(case, p, s, x, train=True), params, state, x)
    assert out.shape == case.output and out.dtype == jnp.float32
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), state)


@CASES
def test_init_uses_only_shape_and_dtype(case):
    x = sample(case)
    first, second = case.model.init(jax.random.key(1), x), case.model.init(jax.random.key(1), jnp.zeros_like(x))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@CASES
@pytest.mark.parametrize("train", [False, True])
def test_jit_equals_eager(case, train):
    params, state = made(case)
    x = sample(case)
    eager = run(case, params, state, x, train=train)
    jitted = jax.jit(lambda p, s, x: run(case, p, s, x, train=train))(params, state, x)
    # A bfloat16 computation may be rounded at other places when it is compiled as a whole.
    tolerance = 2e-2 if case is MODELS["bfloat16"] else 2e-5
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), eager, jitted)


@CASES
def test_gradients_are_finite(case):
    params, state = made(case)
    x = sample(case)
    loss = lambda p, x: (run(case, p, state, x, train=True)[0] ** 2).sum()  # noqa: E731
    grads = jax.grad(loss)(params, x) if case.integer else jax.grad(loss, argnums=(0, 1))(params, x)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


@CASES
def test_state_changes_only_in_training(case):
    params, state = made(case)
    _, same = run(case, params, state, sample(case))
    jax.tree.map(np.testing.assert_array_equal, state, same)
    _, new = run(case, params, state, sample(case), train=True)
    if jax.tree.leaves(state):
        assert any(bool((a != b).any()) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True))


@CASES
def test_keys(case):
    params, state = made(case)
    x = sample(case)
    if not case.stochastic:
        return np.testing.assert_array_equal(
            case.model.apply(params, state, x, train=True)[0], run(case, params, state, x, train=True)[0]
        )
    with pytest.raises(ValueError, match="key"):
        case.model.apply(params, state, x, train=True)
    first, again, other = (run(case, params, state, x, train=True, key=k)[0] for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(run(case, params, state, x)[0], case.model.apply(params, state, x)[0])


@CASES
def test_one_device_equals_eight(case):
    params, state = made(case)
    x = sample(case)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    function = jax.jit(lambda p, s, x: run(case, p, s, x, train=True))
    one, eight = function(params, state, x), function(params, state, split)
    tolerance = 2e-2 if case is MODELS["bfloat16"] else 1e-5
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), one, eight)
