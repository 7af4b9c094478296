"""The summary table: parameters and operations counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from dlcore.networks import CNN
from dlcore.nn import (
    Conv,
    Dense,
    GlobalAvgPool,
    branch_table,
    compute_in,
    convolves,
    example,
    flops,
    in_precision,
    loops,
    scan,
    serial,
    summarize,
    table,
    tables,
)
from dlcore.nn._conv.lowering.xla import conv_by_xla


def test_counts_by_hand():
    model = serial(Conv(8, 3), serial(Conv(4, 3, stride=2, groups=2), GlobalAvgPool()), Dense(10))
    rows = {row.path: row for row in summarize(model, jax.ShapeDtypeStruct((2, 6, 6, 3), jnp.float32))}
    assert rows["conv_0"][1:] == ("2×6×6×8", 9 * 3 * 8 + 8, 2 * 2 * 36 * 8 * 9 * 3)
    assert rows["serial_0/conv_0"][1:] == ("2×3×3×4", 9 * 4 * 4 + 4, 2 * 2 * 9 * 4 * 9 * 4)
    assert rows["dense_0"][1:] == ("2×10", 4 * 10 + 10, 2 * 2 * 4 * 10)
    assert rows[""].parameters == sum(rows[name].parameters for name in ("conv_0", "serial_0", "dense_0"))
    assert rows[""].flops == sum(rows[name].flops for name in ("conv_0", "serial_0", "dense_0"))


def test_loops_count_every_turn():
    x = jnp.ones((2, 4))
    for unroll in (False, True):
        model = scan(Dense(4), 5, unroll=unroll)
        row = summarize(model, x)[0]
        assert (row.parameters, row.flops) == (5 * 20, 5 * 2 * 2 * 16)
    jaxpr = jax.make_jaxpr(lambda x: jax.lax.scan(lambda c, _: (jnp.tanh(c @ c.T @ c), None), x, None, length=3))(x)
    assert flops(jaxpr) == 3 * (2 * 2 * 2 * 4 + 2 * 2 * 4 * 2)
    assert not convolves(jaxpr)
    inside = scan(Conv(4, 3), 2, unroll=False)
    params, state = inside.init(jax.random.key(0), jnp.ones((1, 5, 5, 4)))
    unrolled = scan(Conv(4, 3), 2, unroll=True)
    nested, flat = (
        jax.make_jaxpr(lambda x, m=m: m.apply(params, state, x)[0])(jnp.ones((1, 5, 5, 4))) for m in (inside, unrolled)
    )
    assert convolves(nested) and convolves(flat)
    assert [convolves(body) for body in loops(nested)] == [True] and not any(convolves(body) for body in loops(flat))


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_cost_twice_the_value_whatever_the_stride(stride):
    x, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((2, 2, 3, 5))

    def loss(x, kernel):
        return jnp.square(conv_by_xla(x, kernel, (stride,) * 2, ((0, 0),) * 2, (1, 1))).sum()

    side = 8 // 2 if stride == 2 else 7
    once = 2 * 2 * side * side * 4 * 3 * 5
    assert flops(jax.make_jaxpr(loss)(x, kernel)) == once
    gradient = flops(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel))
    # At stride 1 the cells at the border are multiplied by zeros around.
    assert gradient == (3 * once if stride == 2 else 2 * once + 2 * 2 * 8 * 8 * 4 * 3 * 5)


def test_mixed_precision_changes_no_path():
    model, image = CNN((4,), 3), jnp.ones((1, 8, 8, 1))
    assert [r.path for r in summarize(compute_in(model, jnp.bfloat16), image)] == [
        r.path for r in summarize(model, image)
    ]
    text = table(summarize(model, image))
    assert "stage_1/conv_0" in text and len({len(line) for line in text.splitlines()}) == 1


def test_tables_stand_below_each_other_and_branches_are_counted():
    small, large = (Dense(2), example((3,))), (Dense(4), example((5,)))
    assert tables(small, large) == table(summarize(*small)) + "\n" + table(summarize(*large))
    params = {"a": {"b": {"kernel": example((2, 3)), "bias": example((3,))}}, "c": {"kernel": example((7,))}}
    rows = [line.split() for line in branch_table(params).splitlines()]
    assert rows == [["a/b", "9"], ["c", "7"], ["(all)", "16"]]


def test_a_precision_is_named_and_another_refused():
    x = jnp.full((1, 3), 1 / 3)
    model = Dense(2)
    params, state = model.init(jax.random.key(0), x)
    assert in_precision(model, "float32") is model
    rounded = compute_in(model, jnp.bfloat16).apply(params, state, x)[0]
    assert (in_precision(model, "bfloat16").apply(params, state, x)[0] == rounded).all()
    with pytest.raises(ValueError, match="dtype must be float32 or bfloat16, got 'float16'"):
        in_precision(model, "float16")
