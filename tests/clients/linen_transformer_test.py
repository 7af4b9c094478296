"""A boxed Linen transformer on masked tokens, its mode in a configuration: dlcore against the plain loop."""

from dataclasses import dataclass, replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clients.program import resumes_to_the_bit, same

from dlcore.interop import from_linen, sharding_rules
from dlcore.keys import fold_name
from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.optim import decay_mask
from dlcore.parallel.mesh import make_mesh
from dlcore.parallel.sharding import shardings
from dlcore.train import create, gradient_update, make_train_step
from dlcore.train._step import step_key
from dlcore.tree import named_leaves

VOCABULARY, LENGTH, WIDTH = 11, 6, 8


@dataclass(frozen=True)
class Config:
    dropout: float = 0.1
    deterministic: bool = False


def boxed(*axes):
    return nn.with_partitioning(nn.initializers.xavier_uniform(), axes)


class Layer(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x, mask):
        config, ones = self.config, nn.with_partitioning(nn.initializers.ones, ("embed",))
        y = nn.LayerNorm(scale_init=ones)(x)
        heads = nn.MultiHeadDotProductAttention(
            2,
            kernel_init=boxed("embed", "heads", None),
            out_kernel_init=boxed("heads", None, "embed"),
            dropout_rate=config.dropout,
            deterministic=config.deterministic,
        )
        x = x + heads(y, y, mask=mask)
        y = nn.gelu(nn.Dense(16, kernel_init=boxed("embed", "mlp"))(nn.LayerNorm(scale_init=ones)(x)))
        y = nn.Dense(WIDTH, kernel_init=boxed("mlp", "embed"))(y)
        return x + nn.Dropout(config.dropout)(y, deterministic=config.deterministic)


class Transformer(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, tokens, where):
        table = nn.with_partitioning(nn.initializers.normal(0.5), ("vocabulary", "embed"))
        x = nn.Embed(VOCABULARY, WIDTH, embedding_init=table)(tokens)
        x = x + self.param("positions", nn.initializers.normal(0.1), (LENGTH, WIDTH))
        mask = nn.combine_masks(nn.make_causal_mask(tokens), nn.make_attention_mask(where, where))
        return nn.Dense(VOCABULARY, kernel_init=boxed("embed", "vocabulary"))(Layer(self.config)(x, mask))


def module(train):
    return Transformer(replace(Config(), deterministic=not train))


TX = optax.adamw(1e-2, weight_decay=0.1, mask=decay_mask)
TOKENS = jax.random.randint(jax.random.key(1), (4, 8, LENGTH + 1), 0, VOCABULARY)
WHERE = jnp.arange(LENGTH) < jax.random.randint(jax.random.key(2), (4, 8, 1), 2, LENGTH + 1)


def plain_loop(state, params):
    """Boxed params as Flax's language-model example has them; weight decay on kernels and embeddings by hand."""
    kernels = lambda params: jax.tree_util.tree_map_with_path(  # noqa: E731
        lambda path, _: any(name in str(path) for name in ("kernel", "embedding", "positions")), params
    )
    tx = optax.adamw(1e-2, weight_decay=0.1, mask=kernels)
    opt, losses = tx.init(params), []

    def loss_of(params, tokens, where, key):
        logits = module(True).apply({"params": params}, tokens[:, :-1], where, rngs={"dropout": key})
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        return (losses * where).sum() / where.sum()

    @jax.jit
    def step(params, opt, tokens, where, key):
        loss, grads = jax.value_and_grad(loss_of)(params, tokens, where, key)
        updates, opt = tx.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, loss

    for i, (tokens, where) in enumerate(zip(TOKENS, WHERE, strict=True)):
        key = fold_name(fold_name(step_key(state._replace(step=jnp.int32(i))), "update"), "dropout")
        params, opt, loss = step(params, opt, tokens, where, key)
        losses.append(loss)
    return params, losses


@pytest.mark.slow
def test_trains_as_the_plain_loop_and_resumes_to_the_bit(tmp_path):
    model = from_linen(module)
    batches = [
        {"tokens": tokens[:, :-1], "next": tokens[:, 1:], "where": where, "mask": where}
        for tokens, where in zip(TOKENS, WHERE, strict=True)
    ]
    inputs = batches[0]["tokens"], batches[0]["mask"]
    objective = supervised(model, softmax_cross_entropy, inputs=("tokens", "mask"), targets="next")
    update = gradient_update(objective, TX)
    start = create(jax.random.key(0), lambda key: model.init(key, *inputs), update)
    boxes = module(True).init(jax.random.split(jax.random.key(0))[0], *inputs)["params"]
    same(start.params, nn.unbox(boxes), exact=True)
    end, losses = resumes_to_the_bit(tmp_path, start, jax.jit(make_train_step(update)), batches)
    params, plain = plain_loop(start, boxes)
    same((end.params, losses), (nn.unbox(params), plain))
    logits = module(False).apply({"params": params}, *inputs)
    np.testing.assert_allclose(model.apply(end.params, end.state, *inputs)[0], logits, atol=1e-5)


@pytest.mark.slow
def test_the_hints_place_the_state_and_the_gradient_is_the_same():
    model = from_linen(module)
    tokens, mask = TOKENS[0, :, :-1], WHERE[0]
    objective = supervised(model, softmax_cross_entropy, inputs=("tokens", "mask"), targets="next")
    update = gradient_update(objective, TX)
    state = create(jax.random.key(0), lambda key: model.init(key, tokens, mask), update)
    rule = sharding_rules(module, tokens, mask, axes={"mlp": "data"})
    where = shardings(state, make_mesh(4), rule)
    split = sorted(path for path, sharding in named_leaves(where) if any(sharding.spec))
    assert [path for path in split if path.startswith("params")] == [
        "params/Layer_0/Dense_0/kernel",
        "params/Layer_0/Dense_1/kernel",
    ]
    assert len(split) == 6, "their two moments lie as they do"
    batch = {"tokens": tokens, "next": TOKENS[0, :, 1:], "where": mask, "mask": mask}
    loss = lambda params: objective(params, state.state, batch, key=jax.random.key(1), train=True)[0]  # noqa: E731
    gradient = jax.jit(jax.value_and_grad(loss))
    same(gradient(jax.device_put(state.params, where.params)), gradient(state.params))
