"""The parts that a training step is composed of (lecture 6, 11.2)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dlcore.keys import fold_name
from dlcore.operands import known
from dlcore.tree import Pattern, merge, partition
from dlcore.types import Aux, Batch, Carry, Key, Mean, Objective, Params, State, Update, View

Metrics = Mapping[str, Mean]


def gradient_update(
    objective: Objective, tx: optax.GradientTransformation, *, only: Pattern = "**", microbatches: int = 1
) -> Update:
    """θ ← θ + tx(∇_θ L): one optimiser step on the params whose paths the pattern `only` names.

    Those alone are differentiated, the rest is held constant. Its memory is the optimiser's state. With `microbatches`
    = m the batch is cut into m equal parts whose gradients are averaged (the model state passing through them
    in turn), which needs 1/m of the activation memory. Parts weigh what the objective says that they count, see `Aux`,
    so that masks are free to mark more of one part than of another, or nothing. Adds the metric `gradient_norm`.
    Raises `ValueError` when m does not divide the batch, for parts of a batch with `where` that the objective
    gives no weight, and for a pattern that names no leaf.
    """
    if microbatches < 1:
        raise ValueError(f"microbatches must be at least 1, got {microbatches}")

    def init(params: Params, state: State) -> Any:
        return tx.init(partition(params, only)[0])

    def apply(carry: Carry, batch: Batch, *, key: Key, step: Array) -> tuple[Carry, Metrics]:
        chosen, rest = partition(carry.params, only)

        def loss(chosen: Params, state: State, batch: Batch, key: Key) -> tuple[Float[Array, ""], Aux]:
            return objective(merge(chosen, rest), state, batch, key=key, train=True, step=step)

        gradient = _accumulated(jax.grad(loss, has_aux=True), microbatches)
        grads, aux = gradient(chosen, carry.state, batch, key)
        updates, memory = tx.update(grads, carry.memory, chosen)
        params = merge(optax.apply_updates(chosen, updates), rest)
        metrics = {**aux.metrics, "gradient_norm": Mean(optax.tree.norm(grads), jnp.int32(1))}
        return Carry(params, aux.state, memory), metrics

    return Update(init, apply)


def chain(**updates: Update) -> Update:
    """The updates one after another on the same batch, each with the memory and the key of its name.

    A metric that two of them have becomes `NAME/metric` for both. Views follow the same order, so that an average
    stands after the updates whose params it averages. Raises `ValueError` for no updates.
    """
    if not updates:
        raise ValueError("chain: a training step needs at least one update")

    def init(params: Params, state: State) -> dict[str, Any]:
        return {name: update.init(params, state) for name, update in updates.items()}

    def apply(carry: Carry, batch: Batch, *, key: Key, step: Array) -> tuple[Carry, Metrics]:
        memory, found = dict(carry.memory), {}
        for name, update in updates.items():
            own = carry._replace(memory=memory[name])
            carry, found[name] = update.apply(own, batch, key=fold_name(key, name), step=step)
            memory[name] = carry.memory
        return carry._replace(memory=memory), _joined(found)

    def view(memory: Any, seen: View) -> View:
        for name, update in updates.items():
            seen = update.view(memory[name], seen)
        return seen

    return Update(init, apply, view)


def with_average(update: Update, decay: Float[Array, ""] | float) -> Update:
    """The update under the name `gradient`, followed by a moving average `ema` unless its decay is 0."""
    is_zero = known(decay) and not decay
    return chain(gradient=update, **({} if is_zero else {"ema": ema_update(decay)}))


def _joined(found: Mapping[str, Metrics]) -> dict[str, Mean]:
    names = [metric for metrics in found.values() for metric in metrics]
    return {
        metric if names.count(metric) == 1 else f"{name}/{metric}": value
        for name, metrics in found.items()
        for metric, value in metrics.items()
    }


def repeated(update: Update, times: int) -> Update:
    """The update `times` times on the same batch, with one memory and a key for each; metrics are means over them."""
    if times < 1:
        raise ValueError(f"repeated: times must be at least 1, got {times}")

    def apply(carry: Carry, batch: Batch, *, key: Key, step: Array) -> tuple[Carry, Metrics]:
        sums = None
        for i in range(times):
            carry, metrics = update.apply(carry, batch, key=jax.random.fold_in(key, i), step=step)
            sums = metrics if sums is None else jax.tree.map(jnp.add, sums, metrics)
        return carry, sums

    return update if times == 1 else update._replace(apply=apply)


def reported(update: Update, *names: str, decay: float = 0.99) -> Update:
    """The update, which also remembers some of its metrics and shows them to evaluation.

    Each is the running mean Σ_s decay^(t−s) total_s / Σ_s decay^(t−s) count_s, so that one step gives its own value.
    """

    def init(params: Params, state: State) -> Any:
        return {"update": update.init(params, state), "report": {n: Mean(jnp.zeros(()), jnp.zeros(())) for n in names}}

    def apply(carry: Carry, batch: Batch, *, key: Key, step: Array) -> tuple[Carry, Metrics]:
        memory = carry.memory
        carry, metrics = update.apply(carry._replace(memory=memory["update"]), batch, key=key, step=step)
        report = {n: jax.tree.map(lambda old, new: decay * old + new, memory["report"][n], metrics[n]) for n in names}
        return carry._replace(memory={"update": carry.memory, "report": report}), metrics

    def view(memory: Any, seen: View) -> View:
        seen = update.view(memory["update"], seen)
        return seen._replace(report={**seen.report, **memory["report"]})

    return Update(init, apply, view)


EMPTY = 1e-20
"""Weight of a part in which nothing counts: nothing beside other parts, but all penalties if no part has more."""


def _accumulated(gradient: Callable[..., Any], count: int) -> Callable[..., Any]:
    """The mean of `gradient` over `count` equal parts of the batch by their weights, metrics summed."""
    if count == 1:
        return gradient

    def accumulate(branch: Params, model_state: Any, batch: Batch, key: Key) -> tuple[Any, Aux]:
        parts = _parts(batch, count)
        sums, metrics = None, None
        for i in range(count):
            part = jax.tree.map(lambda x: x[i], parts)  # noqa: B023
            grads, aux = gradient(branch, model_state, part, jax.random.fold_in(key, i))
            model_state, weight = aux.state, _weight(aux, batch)
            new = weight, jax.tree.map(lambda g: weight * g, grads)  # noqa: B023
            sums = new if sums is None else jax.tree.map(jnp.add, sums, new)
            metrics = aux.metrics if metrics is None else jax.tree.map(jnp.add, metrics, aux.metrics)
        total, grads = sums
        return jax.tree.map(lambda g, p: (g / total).astype(p.dtype), grads, branch), Aux(model_state, metrics)

    return accumulate


def _parts(batch: Batch, count: int) -> Batch:
    """The batch cut into `count` equal parts, on a new first axis."""
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % count:
        raise ValueError(f"batch {size} cannot be cut into {count} equal microbatches; use a multiple of {count}")
    # Row i goes to part i mod count, so that a batch split over devices stays evenly split.
    return jax.tree.map(lambda x: x.reshape(size // count, count, *x.shape[1:]).swapaxes(0, 1), batch)


def _weight(aux: Aux, batch: Batch) -> Array:
    if aux.weight is not None:
        return jnp.maximum(jnp.asarray(aux.weight, jnp.float32), EMPTY)
    if "where" in batch:
        raise ValueError(
            "microbatches: the batch has `where`, but the objective does not say what its loss is a mean over; "
            "return Aux(state, metrics, weight=number of entries that count)"
        )
    return jnp.float32(1)


def ema(average: Any, new: Any, decay: Float[Array, ""] | float) -> Any:
    """Exponential moving average θ̄ ← decay·θ̄ + (1 − decay)·θ, leaf by leaf (lecture 11.2 with λ = 1 − decay).

    decay 0 copies `new`, decay 1 freezes the average. Integer leaves are copied.
    """

    def leaf(a: Array, b: Array) -> Array:
        return (decay * a + (1 - decay) * b).astype(b.dtype) if jnp.issubdtype(b.dtype, jnp.inexact) else b

    return jax.tree.map(leaf, average, new)


def ema_update(decay: Float[Array, ""] | float, *, only: Pattern = "**") -> Update:
    """Average params and model state with decay min(decay, (1 + t)/(10 + t)) at step t.

    Its memory is the average of what `only` names (of the state, what lies at paths that it names there); its view has
    them in place of the live ones. Decay 1 freezes the average; the decay may be traced. The warm-up lets the average
    forget the random start quickly. It goes last in a chain. Raises `ValueError` unless 0 ≤ decay ≤ 1.
    """
    if known(decay) and not 0 <= decay <= 1:
        raise ValueError(f"decay must lie in [0, 1], got {decay}")

    def init(params: Params, state: State) -> Any:
        return jax.tree.map(jnp.copy, averaged(params, state))

    def averaged(params: Params, state: State) -> dict[str, Any]:
        return {"params": partition(params, only)[0], "state": partition(state, only, strict=False)[0]}

    def apply(carry: Carry, batch: Batch, *, key: Key, step: Array) -> tuple[Carry, Metrics]:
        t = step.astype(jnp.float32)
        warm = jnp.where(decay == 1, 1.0, jnp.minimum(decay, (1 + t) / (10 + t)))
        memory = ema(carry.memory, averaged(carry.params, carry.state), warm)
        return carry._replace(memory=memory), {}

    def view(memory: Any, seen: View) -> View:
        params = merge(memory["params"], partition(seen.params, only)[1])
        return View(params, merge(memory["state"], partition(seen.state, only, strict=False)[1]), seen.report)

    return Update(init, apply, view)
