"""Params in Flax's own containers train as plain dicts do, and stay what they are, whatever a pattern takes out."""

import flax.core
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from interop.trees import equal

from dlcore.interop import from_linen, from_nnx
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.optim import decay_mask
from dlcore.train import chain, create, ema_update, gradient_update, make_train_step, view_of
from dlcore.tree import named_leaves

KEY = jax.random.key(0)
BATCH = {"image": jax.random.normal(jax.random.key(1), (6, 4)), "label": jnp.arange(6) % 3}


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        kernel = nn.with_partitioning(nn.initializers.lecun_normal(), ("embed", "mlp"))
        return nn.Dense(3, name="head")(nn.relu(nn.Dense(5, kernel_init=kernel, name="body")(x)))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.body, self.head = nnx.Linear(4, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.body(x)))


def linen(kind):
    model = from_linen(Linen())
    own = {
        "boxed": lambda: Linen().init(KEY, BATCH["image"])["params"],
        "frozen": lambda: flax.core.freeze(model.init(KEY, BATCH["image"])[0]),
    }
    return model, own[kind]()


def state_of_nnx():
    return from_nnx(Nnx), nnx.state(Nnx(nnx.Rngs(KEY)), nnx.Param)


CONTAINERS = {"boxed": lambda: linen("boxed"), "frozen": lambda: linen("frozen"), "nnx": state_of_nnx}


@pytest.mark.parametrize("only", ["**", "head/**", ("**", "!**/bias")], ids=["all", "a branch", "all but biases"])
@pytest.mark.parametrize("kind", CONTAINERS)
def test_they_stay_what_they_are(kind, only):
    model, own = CONTAINERS[kind]()
    plain = model.init(KEY, BATCH["image"])[0]
    tx = optax.adamw(0.05, weight_decay=0.3, mask=decay_mask)
    gradient = gradient_update(supervised(model, softmax_cross_entropy), tx, only=only)
    update = chain(gradient=gradient, ema=ema_update(0.9, only=only))

    @jax.jit
    def run(params):
        start, step = create(KEY, lambda key: (params, {}), update), make_train_step(update)
        end, _ = jax.lax.scan(lambda state, _: step(state, BATCH), start, length=3)
        return end.params, view_of(update, end).params

    found, expected = run(own), run(plain)
    for ours, theirs in zip(found, expected, strict=True):
        assert jax.tree.structure(ours) == jax.tree.structure(own)
        equal(dict(named_leaves(ours)), dict(named_leaves(theirs)))
