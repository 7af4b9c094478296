"""What the networks in Flax share: layers that Linen does not have, or with settings, and how they are trained."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from flax import linen

from launch.speed.workload import LEARNING_RATE

Batch = Mapping[str, jax.Array]
Params = dict[str, Any]
Loss = Callable[[Params, Any, Batch], tuple[jax.Array, Any]]
"""`(params, statistics, batch) -> loss, statistics that it moved`."""
Step = Callable[[Params, Any, Any, Batch], tuple[Params, Any, Any]]
"""`(params, statistics, memory of Adam, batch) -> the first three`."""


class Network(NamedTuple):
    """Modules applied to a batch."""

    losses: Mapping[str, Loss]
    """By what the names of the modules begin with whose params they train."""
    predict: Callable[[Params, Any, Batch], Any]
    """`(params, statistics, batch) -> outputs`."""
    sample: Callable[[Params, Any, jax.Array], Any] | None = None
    """`(params, statistics, key) -> images`, compiled already."""


def trained(
    module: linen.Module, loss: Callable[[jax.Array, Batch], jax.Array], inputs: tuple[str, ...] = ("image",)
) -> Network:
    """A module of these entries of the batch, and the loss of what it gives."""

    def apply(params: Params, statistics: Any, batch: Batch, **options: Any) -> Any:
        variables = {"params": params, "batch_stats": statistics}
        return module.apply(variables, *(batch[name] for name in inputs), **options)

    def whole(params: Params, statistics: Any, batch: Batch) -> tuple[jax.Array, Any]:
        outputs, moved = apply(params, statistics, batch, train=True, mutable=["batch_stats"])
        return loss(outputs, batch), moved.get("batch_stats", {})

    def predict(params: Params, statistics: Any, batch: Batch) -> Any:
        return apply(params, statistics, batch, train=False)

    return Network({"": whole}, predict)


def part(params: Params, start: str) -> Params:
    """Those of the modules whose names begin so."""
    return {name: value for name, value in params.items() if name.startswith(start)}


def training(losses: Mapping[str, Loss], params: Params) -> tuple[Step, Any]:
    """A step of Adam for every loss in turn, and the memory with which it starts."""
    tx = optax.adam(LEARNING_RATE)

    def step(params: Params, statistics: Any, memory: Any, batch: Batch) -> tuple[Params, Any, Any]:
        memory = dict(memory)
        for start, loss in losses.items():
            mine = part(params, start)
            rest = {name: value for name, value in params.items() if name not in mine}
            whole = lambda mine, rest=rest, loss=loss, at=statistics: loss(rest | mine, at, batch)  # noqa: E731
            gradient, statistics = jax.grad(whole, has_aux=True)(mine)
            change, memory[start] = tx.update(gradient, memory[start], mine)
            params = rest | optax.apply_updates(mine, change)
        return params, statistics, memory

    return step, {start: tx.init(part(params, start)) for start in losses}


def batch_norm(x: jax.Array, name: str, train: bool) -> jax.Array:
    """With the settings of the other sides."""
    return linen.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)(x)


class PositionBias(linen.Module):
    """A learned number per position and channel."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x + b."""
        return x + self.param("bias", linen.initializers.zeros, x.shape[1:])
