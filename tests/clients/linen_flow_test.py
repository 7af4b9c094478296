"""A user's RealNVP in conditioners of their own, on dlcore's couplings, against the formulas written out."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clients.program import resumes_to_the_bit, same

from dlcore.generative.flow import AffineCoupling, chain, density
from dlcore.interop import from_linen
from dlcore.train import create, gradient_update, make_train_step

KEY, BOUND = jax.random.key(0), 1.5


class Conditioner(nn.Module):
    """Log-scales, then shifts, of two coordinates."""

    @nn.compact
    def __call__(self, x):
        h = x + nn.Dense(x.shape[-1])(nn.swish(nn.LayerNorm()(nn.Dense(5)(x))))
        return nn.Dense(4)(nn.swish(h))


FLIPS = {"first": False, "second": True, "third": False}


def log_prob(params, x):
    """log p(x), coupling by coupling."""
    log_det = 0.0
    for name, flip in FLIPS.items():
        passed, moved = (x[:, 2:], x[:, :2]) if flip else (x[:, :2], x[:, 2:])
        raw, shift = jnp.split(Conditioner().apply({"params": params[name]}, passed), 2, axis=-1)
        scale = BOUND * jnp.tanh(raw / BOUND)
        moved, log_det = moved * jnp.exp(scale) + shift, log_det + scale.sum(-1)
        x = jnp.concatenate([moved, passed] if flip else [passed, moved], axis=-1)
    return -0.5 * jnp.square(x).sum(-1) - 2 * math.log(2 * math.pi) + log_det


@pytest.mark.slow
def test_a_flow_of_a_users_own(tmp_path):
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))
    conditioner = from_linen(Conditioner())
    flow = chain(**{name: AffineCoupling(conditioner, flip=flip, bound=BOUND) for name, flip in FLIPS.items()})
    data = [{"x": jnp.tanh(x)} for x in jax.random.normal(KEY, (4, 8, 4))]
    update = gradient_update(density.negative_log_likelihood(flow, target="x"), tx)
    start = create(KEY, lambda key: (flow.init(key, data[0]["x"]), {}), update)
    step = jax.jit(make_train_step(update))
    state, losses = resumes_to_the_bit(tmp_path, start, step, data)

    @jax.jit
    def plain(params, opt, x):
        loss, grads = jax.value_and_grad(lambda p: -log_prob(p, x).mean())(params)
        updates, opt = tx.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, loss

    params, opt, expected = start.params, tx.init(start.params), []
    for batch in data:
        params, opt, loss = plain(params, opt, batch["x"])
        expected.append(loss)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    same(state.params, params)
    assert float(density.round_trip_error(flow, state.params, data[0]["x"]).max()) < 1e-5
