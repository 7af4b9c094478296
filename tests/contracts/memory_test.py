"""State that moves in evaluation: handed on through combinators by whoever decodes, and dropped by evaluation."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dlcore.interop import from_linen, from_nnx
from dlcore.losses import squared_error, supervised
from dlcore.nn import BatchNorm, Dense, SpectralNorm, activations, compose, compute_in, residual, scan, serial
from dlcore.types import Model

LENGTH, TOKENS = 4, jax.random.normal(jax.random.key(0), (2, 4, 3))


def RunningSum():
    """Adds up what it has been given so far: the smallest memory."""

    def init(key, x):
        return {}, {"sum": jnp.zeros(x.shape)}

    def apply(params, state, x, *, train=False, key=None):
        total = state["sum"] + x
        return total, {"sum": total}

    return Model(init, apply)


def decode(model, params, state, tokens):
    """One token after another, [b, t, d] to [b, t, d]: the state in the carry."""

    def one(state, token):
        out, state = model.apply(params, state, token)
        return state, out

    state, outs = jax.lax.scan(one, state, tokens.swapaxes(0, 1))
    return outs.swapaxes(0, 1), state


def test_combinators_pass_a_memory_on():
    plain = lambda: serial(norm=BatchNorm(), sum=RunningSum())  # noqa: E731
    models = {
        "serial": (plain(), 1),
        "residual": (serial(block=residual(RunningSum())), 1),
        "unrolled": (scan(RunningSum(), 2, unroll=True), 2),
        "looped": (scan(RunningSum(), 2, unroll=False), 2),
        "cast": (compute_in(plain(), jnp.float32), 1),
    }
    expected = {1: np.cumsum(TOKENS, 1), 2: np.cumsum(np.cumsum(TOKENS, 1), 1)}
    for name, (model, sums) in models.items():
        params, start = model.init(jax.random.key(1), TOKENS[:, 0])
        outs, state = decode(model, params, start, TOKENS)
        given = expected[sums] + (TOKENS if name == "residual" else 0)
        np.testing.assert_allclose(outs, given, rtol=1e-4, atol=1e-4, err_msg=name)
        assert jax.tree.structure(state) == jax.tree.structure(start), name
    twice, found = activations(plain(), *plain().init(jax.random.key(1), TOKENS[:, 0]), TOKENS[:, 0])
    assert (found["sum"] == twice).all()


def test_a_memory_behind_a_normalised_weight_moves_alone():
    model = SpectralNorm(serial(dense=Dense(3, bias=False), sum=RunningSum()))
    params, start = model.init(jax.random.key(1), TOKENS[:, 0])
    outs, state = decode(model, params, start, TOKENS)
    alone = jnp.stack([model.apply(params, start, TOKENS[:, t])[0] for t in range(LENGTH)], 1)
    np.testing.assert_allclose(outs, np.cumsum(alone, 1), rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, state["vector"], start["vector"])


def test_a_part_called_twice_remembers_its_first_call():
    model = compose(lambda call, x: call("sum", call("sum", x)), sum=RunningSum())
    params, state = model.init(jax.random.key(1), TOKENS[:, 0])
    np.testing.assert_allclose(model.apply(params, state, TOKENS[:, 0])[0], 2 * TOKENS[:, 0], rtol=1e-6)


def test_networks_without_a_memory_return_the_state_that_they_were_given():
    model = serial(Dense(3), BatchNorm(), residual(serial(Dense(3), BatchNorm())))
    params, state = model.init(jax.random.key(1), TOKENS[:, 0])
    assert model.apply(params, state, TOKENS[:, 0])[1] is state


def test_evaluation_drops_it_and_an_objective_may_carry_it():
    model = serial(sum=RunningSum())
    params, state = model.init(jax.random.key(1), TOKENS[:, 0])
    objective = supervised(model, squared_error)
    batch = {"image": TOKENS[:, 0], "label": TOKENS[:, 1]}
    first, aux = objective(params, state, batch, key=None, train=False)
    again, _ = objective(params, state, batch, key=None, train=False)
    after, _ = objective(params, aux.state, batch, key=None, train=False)
    np.testing.assert_allclose(first, jnp.square(TOKENS[:, 0] - TOKENS[:, 1]).mean(), rtol=1e-5)
    assert first == again
    np.testing.assert_allclose(after, jnp.square(2 * TOKENS[:, 0] - TOKENS[:, 1]).mean(), rtol=1e-5)


def test_attention_of_linen_decodes_as_with_a_causal_mask():
    module = nn.MultiHeadDotProductAttention(num_heads=1, qkv_features=3, decode=True)
    model = from_linen(module)
    params, state = model.init(jax.random.key(1), TOKENS)
    outs, after = decode(model, params, state, TOKENS[:, :, None])
    whole = nn.MultiHeadDotProductAttention(num_heads=1, qkv_features=3)
    mask = nn.make_causal_mask(TOKENS[..., 0])
    np.testing.assert_allclose(outs[:, :, 0], whole.apply({"params": params}, TOKENS, mask=mask), rtol=1e-4, atol=1e-5)
    assert int(after["cache"]["cache_index"]) == LENGTH and int(state["cache"]["cache_index"]) == 0


@pytest.mark.slow
def test_attention_of_nnx_decodes_as_with_a_causal_mask():
    def make(rngs):
        layer = nnx.MultiHeadAttention(1, 3, 3, decode=True, rngs=rngs)
        layer.init_cache(TOKENS.shape)
        return layer

    model = from_nnx(make)
    params, state = model.init(jax.random.key(1), TOKENS[:, :1])
    jax.tree.map(np.testing.assert_array_equal, model.init(jax.random.key(1)), (params, state))
    outs, after = decode(model, params, state, TOKENS[:, :, None])
    native = make(nnx.Rngs(jax.random.key(1)))
    whole = native(TOKENS, mask=nnx.make_causal_mask(TOKENS[..., 0]), decode=False)
    np.testing.assert_allclose(outs[:, :, 0], whole, rtol=1e-4, atol=1e-5)
    assert int(after["cache_index"]) == LENGTH and int(state["cache_index"]) == 0
