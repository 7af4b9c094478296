"""How composed models start: each part by its inputs, in one run however deep it lies."""

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.keys import fold_name
from dlcore.nn import Activation, Dense, compose, serial, summarize
from dlcore.types import Model


def counting(size, calls):
    """A dense layer that counts its runs."""
    dense = Dense(size)

    def apply(params, state, x, **options):
        calls.append(x.shape)
        return dense.apply(params, state, x, **options)

    return Model(dense.init, apply, "dense")


def centred():
    """A layer whose start is the mean of what it is given, taken off."""

    def apply(params, state, x, **_):
        return x - params["mean"], state

    return Model(lambda key, x: ({"mean": x.mean(0)}, {}), apply, "centred")


def nested(part, depth):
    for _ in range(depth):
        part = serial(part, Activation("tanh"))
    return part


def test_a_part_starts_by_its_own_key_however_deep_it_lies():
    x, key = jnp.ones((2, 3)), jax.random.key(1)
    params, _ = serial(nested(Dense(4), 2), Dense(5)).init(key, x)
    for name in ("serial_0", "serial_0", "dense_0"):
        params, key = params[name], fold_name(key, name)
    jax.tree.map(np.testing.assert_array_equal, params, Dense(4).init(key, x)[0])


def test_a_part_that_starts_from_values_gets_those_that_parts_before_it_put_out():
    x, before = jax.random.normal(jax.random.key(0), (7, 3)), nested(Dense(4), 2)
    for model in (serial(before, centred()), serial(before, serial(centred()))):
        params, state = model.init(jax.random.key(1), x)
        out, _ = before.apply(params["serial_0"], {}, x)
        (mean,) = (leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if "mean" in str(path))
        np.testing.assert_allclose(mean, out.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.apply(params, state, x)[0].mean(0), 0, atol=1e-6)


def test_depth_does_not_multiply_the_runs():
    for depth in (1, 4):
        runs = []
        model = nested(counting(4, runs), depth)
        jax.eval_shape(model.init, jax.random.key(0), jnp.ones((2, 3)))
        assert runs == [(2, 3)]
        assert len(summarize(nested(counting(4, runs), depth), jnp.ones((2, 3)))) == 1 + 2 * depth
        assert runs == 3 * [(2, 3)]  # starting once more, and the table


def test_a_shared_part_has_the_row_of_its_first_call():
    def forward(call, x):
        return call("two", call("one", x)) + call("one", x[:, :1].repeat(3, 1)[:1])

    model = compose(forward, one=nested(Dense(3), 1), two=Dense(3))
    rows = {row.path: row for row in summarize(model, jnp.ones((5, 3)))}
    assert list(rows) == ["", "one", "one/dense_0", "one/activation_0", "two"]
    assert rows["one/dense_0"].shape == "5×3" and rows["one/dense_0"].flops == rows["two"].flops == 2 * 5 * 3 * 3
    assert rows[""].flops == 2 * (5 + 5 + 1) * 9 and rows[""].parameters == 2 * 12


def test_a_part_may_be_called_as_functions_of_jax_are():
    model = serial(first=Dense(3), bent=Activation("relu"), relu=Dense(7))
    rows = {row.path: row.flops for row in summarize(model, jnp.ones((5, 4)))}
    assert rows == {"": 2 * 5 * (12 + 21), "first": 2 * 5 * 12, "bent": 0, "relu": 2 * 5 * 21}
