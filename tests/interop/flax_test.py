"""Flax modules keep their own outputs, and train through dlcore's engine."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dlcore.interop import from_linen, from_nnx
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.train import create, gradient_update, make_train_step


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Dense(16)(x.reshape(len(x), -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.Dropout(0.3, deterministic=not train)(x)
        return nn.Dense(3)(x)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(8, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.last = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x.reshape(len(x), -1))))))


MODELS = {"linen": lambda: from_linen(LinenNet()), "nnx": lambda: from_nnx(lambda rngs: NnxNet(rngs))}


@pytest.fixture
def batch():
    x = jax.random.normal(jax.random.key(0), (32, 2, 4))
    return {"image": x, "label": (x.sum((1, 2)) > 0).astype(jnp.int32)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_trains_through_the_engine(kind, batch):
    model, tx = MODELS[kind](), optax.adam(1e-2)
    objective = supervised(model, softmax_cross_entropy)
    update = gradient_update(objective, tx)
    state = create(jax.random.key(1), lambda key: model.init(key, batch["image"]), update)
    step = jax.jit(make_train_step(update))
    start, losses = state, []
    for _ in range(60):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"].value()))
    assert np.mean(losses[-5:]) < 0.3 * losses[0]
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), start.state, state.state)
    assert all(jax.tree.leaves(moved)) and jax.tree.leaves(moved), "running statistics follow the data"


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_pure_unless_training(kind, batch):
    model = MODELS[kind]()
    params, state = model.init(jax.random.key(0), batch["image"])
    first, same = model.apply(params, state, batch["image"])
    second, _ = jax.jit(model.apply)(params, state, batch["image"])
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), state, same))
    with pytest.raises(ValueError, match="key"):
        model.apply(params, state, batch["image"], train=True)
    a, _ = model.apply(params, state, batch["image"], train=True, key=jax.random.key(0))
    b, _ = model.apply(params, state, batch["image"], train=True, key=jax.random.key(1))
    again, _ = model.apply(params, state, batch["image"], train=True, key=jax.random.key(0))
    assert (a != b).any() and (a == again).all()


def test_same_as_linen_itself(batch):
    module, model = LinenNet(), from_linen(LinenNet())
    params, state = model.init(jax.random.key(3), batch["image"])
    native = module.apply({"params": params, **state}, batch["image"], train=False)
    np.testing.assert_array_equal(model.apply(params, state, batch["image"])[0], native)


def test_same_as_nnx_itself(batch):
    native = NnxNet(nnx.Rngs(jax.random.key(3)))
    native.eval()
    model = from_nnx(lambda rngs: NnxNet(rngs))
    params, state = model.init(jax.random.key(3), batch["image"])
    np.testing.assert_array_equal(model.apply(params, state, batch["image"])[0], native(batch["image"]))
    assert set(params) == {"first", "norm", "last"} and set(state) == {"norm"}
