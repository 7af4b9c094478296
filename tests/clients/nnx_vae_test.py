"""An NNX variational autoencoder: an objective of its own on dlcore's engine, against the plain NNX loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clients.program import resumes_to_the_bit, same
from flax import nnx

from dlcore.interop import from_nnx
from dlcore.keys import fold_name
from dlcore.train import create, gradient_update, make_train_step
from dlcore.train._step import step_key
from dlcore.types import Aux, Mean


class Loss(nnx.Variable):
    pass


class VAE(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(12, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.mean, self.log_std = nnx.Linear(8, 2, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)
        self.decoder = nnx.Sequential(nnx.Linear(2, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 12, rngs=rngs))
        self.rngs = rngs

    def __call__(self, x):
        h = nnx.relu(self.norm(self.hidden(x)))
        mean, log_std = self.mean(h), self.log_std(h)
        self.kl_loss = Loss(0.5 * (mean**2 + jnp.exp(2 * log_std) - 1 - 2 * log_std).sum(-1).mean())
        return self.decoder(mean + jnp.exp(log_std) * jax.random.normal(self.rngs.noise(), mean.shape))


TX = optax.adam(1e-2)
DATA = (jax.random.uniform(jax.random.key(5), (4, 8, 12)) > 0.5).astype(jnp.float32)


def plain_loop(start):
    """The loop of Flax's VAE example; each step has the random streams of `nnx.Rngs` of dlcore's key."""
    vae = VAE(nnx.Rngs(0))
    nnx.update(vae, start.params, {"norm": start.state["norm"]})
    optimizer, losses = nnx.Optimizer(vae, TX, wrt=nnx.Param), []

    @nnx.jit
    def step(vae, optimizer, x, key):
        def loss_of(vae):
            vae.train()
            nnx.update(vae, nnx.state(VAE(nnx.Rngs(key)), nnx.RngState))
            logits = vae(x)
            kl = vae.kl_loss.get_value()
            del vae.kl_loss
            return optax.sigmoid_binary_cross_entropy(logits, x).sum(-1).mean() + kl

        loss, grads = nnx.value_and_grad(loss_of)(vae)
        optimizer.update(vae, grads)
        return loss

    for i, x in enumerate(DATA):
        key = fold_name(step_key(start._replace(step=jnp.int32(i))), "update")
        losses.append(step(vae, optimizer, x, key))
    return vae, losses


@pytest.mark.slow
def test_trains_as_the_plain_loop_and_resumes_to_the_bit(tmp_path):
    model = from_nnx(lambda rngs: VAE(rngs))

    def negative_elbo(params, state, batch, *, key, train, step=None):
        x = batch["image"]
        logits, state = model.apply(params, state, x, train=train, key=key)
        terms = optax.sigmoid_binary_cross_entropy(logits, x).sum(-1)
        loss = terms.mean() + state["kl_loss"]
        return loss, Aux(state, {"loss": Mean(loss, jnp.int32(1))})

    update = gradient_update(negative_elbo, TX)
    start = create(jax.random.key(0), lambda key: model.init(key, DATA[0]), update)
    step = jax.jit(make_train_step(update))
    end, losses = resumes_to_the_bit(tmp_path, start, step, [{"image": x} for x in DATA])
    vae, plain = plain_loop(start)
    same((end.params, losses), (nnx.to_pure_dict(nnx.state(vae, nnx.Param)), plain))
    same(end.state["norm"], nnx.to_pure_dict(nnx.state(vae.norm, nnx.BatchStat)))
    with pytest.raises(ValueError, match="key"):
        model.apply(end.params, end.state, DATA[0])
    one, two = (model.apply(end.params, end.state, DATA[0], key=jax.random.key(k))[0] for k in (0, 1))
    assert np.abs(one - two).max() > 0.01, "samples of the posterior"
