"""Modules and weights of other libraries: Flax modules as `Model`s, and files that PyTorch and Flax can read.

A Linen module. Dropout and batch norm are told by `train` whether they train; the key of a step feeds every stream:

>>> import flax.linen as nn, jax, jax.numpy as jnp, optax
>>> from dlcore import losses, train
>>> from dlcore.interop import from_linen, from_nnx
>>> class Net(nn.Module):
...     @nn.compact
...     def __call__(self, x, train: bool = False):
...         x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(x)))
...         return nn.Dense(3)(nn.Dropout(0.2, deterministic=not train)(x))
>>> batch = {"image": jnp.ones((8, 4)), "label": jnp.zeros(8, jnp.int32)}
>>> model, tx = from_linen(Net()), optax.adam(1e-3)
>>> update = train.gradient_update(losses.supervised(model, losses.softmax_cross_entropy), tx)
>>> train_state = train.create(jax.random.key(0), lambda key: model.init(key, batch["image"]), update)
>>> train_state, metrics = jax.jit(train.make_train_step(update))(train_state, batch)
>>> sorted(train_state.params), sorted(train_state.state)
(['BatchNorm_0', 'Dense_0', 'Dense_1'], ['batch_stats'])
>>> logits, _ = model.apply(train_state.params, train_state.state, batch["image"])
>>> logits.shape
(8, 3)

A loop of one's own with optax alone differentiates the objective, which tells how the state moves as well:

>>> objective = losses.supervised(model, losses.softmax_cross_entropy)
>>> @jax.jit
... def step(params, state, memory, batch, key):
...     loss = lambda params: objective(params, state, batch, key=key, train=True)
...     (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(params)
...     updates, memory = tx.update(grads, memory, params)
...     return optax.apply_updates(params, updates), aux.state, memory, value
>>> params, state = model.init(jax.random.key(0), batch["image"])
>>> memory, history = tx.init(params), []
>>> for key in jax.random.split(jax.random.key(1), 3):
...     params, state, memory, value = step(params, state, memory, batch, key)
...     history.append(value)
>>> bool(history[-1] < history[0])
True

Where the mode is a field, `from_linen` takes a function of it: `from_linen(lambda train: Net(train=train))`.

An NNX module is given as the function that makes it. A call's random numbers come from its key only:

>>> from flax import nnx
>>> class Noisy(nnx.Module):
...     def __init__(self, rngs):
...         self.rngs, self.dense = rngs, nnx.Linear(4, 2, rngs=rngs)
...     def __call__(self, x):
...         return self.dense(x) + jax.random.normal(self.rngs.noise(), (len(x), 2))
>>> model = from_nnx(lambda rngs: Noisy(rngs))
>>> params, state = model.init(jax.random.key(0), batch["image"])
>>> params["dense"]["kernel"].shape, state
((4, 2), {})
>>> model.apply(params, state, batch["image"], key=jax.random.key(1))[0].shape
(8, 2)
>>> model.apply(params, state, batch["image"])  # doctest: +IGNORE_EXCEPTION_DETAIL
Traceback (most recent call last):
    ...
ValueError: this NNX module draws random numbers, and needs a key; pass key=... to apply

Hints of sharding (`nn.with_partitioning`) become a rule for the leaves of a training state, `sharding_rules`.
"""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
