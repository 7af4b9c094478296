"""A Linen ResNet with batch norm and dropout: dlcore's engine against the loop that Flax users write."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clients.program import resumes_to_the_bit, same

from dlcore.interop import from_linen
from dlcore.keys import fold_name
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.train import create, gradient_update, make_train_step
from dlcore.train._step import step_key


class Block(nn.Module):
    channels: int
    strides: int = 1

    @nn.compact
    def __call__(self, x, train: bool):
        norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        y = nn.relu(norm()(nn.Conv(self.channels, (3, 3), (self.strides,) * 2, use_bias=False)(x)))
        y = norm(scale_init=nn.initializers.zeros)(nn.Conv(self.channels, (3, 3), use_bias=False)(y))
        if x.shape != y.shape:
            x = norm(name="short_norm")(nn.Conv(self.channels, (1, 1), (self.strides,) * 2, use_bias=False)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Conv(4, (3, 3), use_bias=False)(x)))
        for channels, strides in ((4, 1), (8, 2)):
            x = Block(channels, strides)(x, train)
        x = nn.Dropout(0.3, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(3)(x)


TX = optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(0.05, momentum=0.9, nesterov=True))
IMAGES = jax.random.normal(jax.random.key(7), (4, 8, 6, 6, 2))
LABELS = jax.random.randint(jax.random.key(8), (4, 8), 0, 3)


def plain_loop(state):
    """The training loop of Flax's ImageNet example, with the random numbers of dlcore's steps."""
    module, params, batch_stats = ResNet(), state.params, state.state["batch_stats"]
    opt, losses = TX.init(params), []

    def loss_of(params, batch_stats, images, labels, key):
        variables = {"params": params, "batch_stats": batch_stats}
        logits, new = module.apply(variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new["batch_stats"]

    @jax.jit
    def step(params, batch_stats, opt, images, labels, key):
        (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params, batch_stats, images, labels, key)
        updates, opt = TX.update(grads, opt, params)
        return optax.apply_updates(params, updates), batch_stats, opt, loss

    for i, (images, labels) in enumerate(zip(IMAGES, LABELS, strict=True)):
        key = fold_name(fold_name(step_key(state._replace(step=jnp.int32(i))), "update"), "dropout")
        params, batch_stats, opt, loss = step(params, batch_stats, opt, images, labels, key)
        losses.append(loss)
    return params, batch_stats, losses


@pytest.mark.slow
def test_trains_as_the_plain_loop_and_resumes_to_the_bit(tmp_path):
    model = from_linen(ResNet())
    update = gradient_update(supervised(model, softmax_cross_entropy), TX)
    start = create(jax.random.key(0), lambda key: model.init(key, IMAGES[0]), update)
    same(start.params, ResNet().init(jax.random.split(jax.random.key(0))[0], IMAGES[0])["params"], exact=True)
    step = jax.jit(make_train_step(update))
    batches = [{"image": images, "label": labels} for images, labels in zip(IMAGES, LABELS, strict=True)]
    end, losses = resumes_to_the_bit(tmp_path, start, step, batches)
    params, batch_stats, plain = plain_loop(start)
    same((end.params, end.state["batch_stats"], losses), (params, batch_stats, plain))
    variables = {"params": params, "batch_stats": batch_stats}
    logits = ResNet().apply(variables, IMAGES[0], train=False)
    np.testing.assert_allclose(model.apply(end.params, end.state, IMAGES[0])[0], logits, atol=1e-5)
