"""MADE: which outputs see which inputs (lecture 26, 28)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import MADE


def moved(model, *inputs):
    params, _ = model.init(jax.random.key(0), *inputs)
    return jax.tree.map(lambda p: p + jax.random.normal(jax.random.key(p.size), p.shape), params)


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [False, True])
def test_outputs_see_earlier_inputs_only_and_all_of_them(conditional):
    model = MADE(5, (16, 16), 10, activation="tanh", conditional=conditional)
    x, code = jax.random.normal(jax.random.key(1), (1, 5)), jnp.ones((1, 2))
    condition = (code,) if conditional else ()
    params = moved(model, x, *condition)
    seen = jax.jacrev(lambda x: model.apply(params, {}, x, *condition)[0][0])(x)[:, 0]
    earlier = np.tril(np.ones((5, 5), bool), -1)
    np.testing.assert_array_equal(np.asarray(seen) != 0.0, np.concatenate([earlier, earlier]))
    if conditional:
        told = jax.jacrev(lambda c: model.apply(params, {}, x, c)[0][0])(code)
        assert (told != 0).all()


def test_a_single_input_is_seen_by_nobody_and_the_start_is_0():
    model = MADE(1, (4,), 3)
    x = jnp.ones((2, 1))
    params, _ = model.init(jax.random.key(0), x)
    assert (model.apply(params, {}, x)[0] == 0).all()
    assert (jax.grad(lambda x: model.apply(moved(model, x), {}, x)[0].sum())(x) == 0).all()


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="multiple of 3"):
        MADE(3, (4,), 7)
    with pytest.raises(ValueError, match="made for 3 inputs"):
        MADE(3, (4,), 6).init(jax.random.key(0), jnp.zeros((1, 4)))
