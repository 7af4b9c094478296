"""The workloads by dlcore: its own networks, updates and training step."""

import functools
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dlcore import nn, train
from dlcore.tree import named_leaves
from dlcore.types import Batch, Params, State, TrainState, Update
from launch.speed.networks import NETWORKS, Network
from launch.speed.workload import LEARNING_RATE, Workload


def open_workload(name: str, weights: Path, images: int) -> Workload:
    """Build, compile and write the start of a workload, by which the other sides start; `images` 0 for as listed."""
    network = NETWORKS[name]()
    batch = batch_of(network, images)
    update = update_of(network)
    state = started(network, update, batch)
    write_start(weights, state, batch)
    began = time.monotonic()
    step = jax.jit(train.make_train_step(update), donate_argnums=0).lower(state, batch).compile()
    facts = {"compile_seconds": time.monotonic() - began, "flops": _flops(step)}
    first = first_loss(network, state.params, state.state, batch)
    count = train.count_params(state.params)
    products = nn.flops(jax.make_jaxpr(train.make_train_step(update))(state, batch))
    holder = {"state": state}

    def steps(count: int) -> None:
        for _ in range(count):
            holder["state"], _ = step(holder["state"], batch)
        jax.block_until_ready(holder["state"])

    began = time.monotonic()
    steps(1)
    facts |= {"first_step_seconds": time.monotonic() - began, "product_flops": products}
    facts |= {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    now = lambda: (holder["state"].params, holder["state"].state)  # noqa: E731
    infer = _repeated(jax.jit(network.predict), now, lambda i: batch)
    sample = network.sample and _repeated(jax.jit(network.sample), now, functools.partial(jax.random.key))
    return Workload(len(batch["image"]), first, count, steps, infer, sample, facts)


def update_of(network: Network) -> Update:
    """A training step of every objective, by Adam."""
    tx = optax.adam(LEARNING_RATE)
    return train.chain(**{k: train.gradient_update(f, tx, only=only) for k, (only, f) in network.objectives.items()})


def started(network: Network, update: Update, batch: Batch) -> TrainState:
    """The training state at step 0."""
    return jax.jit(lambda batch: train.create(jax.random.key(0), lambda key: network.init(key, batch), update))(batch)


def write_start(weights: Path, state: TrainState, batch: Batch) -> None:
    """Write params, state and a batch for the other sides."""
    arrays = {"params": state.params, "state": state.state, "batch": batch}
    np.savez(weights, **{path: np.asarray(leaf) for path, leaf in named_leaves(arrays)})


def batch_of(network: Network, images: int) -> dict[str, jax.Array]:
    """A batch of so many images; 0 for as many as the workload lists."""
    shape = (images or network.shape[0], *network.shape[1:])
    return jax.device_put(network.batch(np.random.default_rng(0), shape))


def first_loss(network: Network, params: Params, state: State, batch: Batch) -> float:
    """The loss of the first update."""
    _, objective = next(iter(network.objectives.values()))

    @jax.jit
    def loss(params: Params, state: State, batch: Batch) -> jax.Array:
        return objective(params, state, batch, key=jax.random.key(0), train=True, step=jnp.int32(0))[0]

    return float(loss(params, state, batch))


def _repeated(function: Callable, now: Callable[[], tuple], last: Callable[[int], Any]) -> Callable[[int], None]:
    def run(count: int) -> None:
        jax.block_until_ready([function(*now(), last(i)) for i in range(count)])

    return run


def _flops(compiled: Any) -> float:
    cost = compiled.cost_analysis()
    return float((cost[0] if isinstance(cost, list) else cost or {}).get("flops", 0.0))
