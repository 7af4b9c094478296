"""The parts that a training step is composed of (lecture 6, 11.2)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dlcore.keys import fold_name
from dlcore.norms import global_norm
from dlcore.operands import known, wide
from dlcore.optim import Transformation, transform
from dlcore.setting import number, whole
from dlcore.tree import Pattern, fitted, merge, named_leaves, partition
from dlcore.types import Aux, Batch, Carry, Key, Mean, Objective, Params, State, Update, View

Metrics = Mapping[str, Mean]


def gradient_update(
    objective: Objective,
    tx: Transformation,
    *,
    only: Pattern = "**",
    microbatches: int = 1,
    lookahead: bool = False,
    evaluated: Callable[[Any, Params], Params] | None = None,
) -> Update:
    """θ ← θ + tx(∇_θ L): one optimiser step on the params whose paths the pattern `only` names.

    Those alone are differentiated, the rest is held constant. Its memory is the optimiser's state. With `microbatches`
    = m the batch is cut into m equal parts whose gradients are averaged (the model state passing through them
    in turn), which needs 1/m of the activation memory. Parts weigh what the objective says that they count, see `Aux`,
    so that masks are free to mark more of one part than of another, or nothing. Adds the metric `gradient_norm`.

    Optimisers of optax that ask for more than the gradient have it, all of the same batch, model state and key:
    `value` = L and `grad` = ∇L, `value_fn` and `obj_fn` (params → L) and `grad_fn` (params, i → ∇L). With `lookahead`
    the optimiser is an `optax.lookahead`: the objective sees the fast params, evaluation the slow ones. Others that
    want to be judged by params of their own say by which, `evaluated(memory, params)`: for schedule-free ones
    `optax.contrib.schedule_free_eval_params`, for a transparent SAM `lambda memory, _: memory.cache`.

    Raises `ValueError` when m does not divide the batch, for parts of a batch with `where` that the objective gives no
    weight, for a pattern that names no leaf, and for an optimiser that needs what it is not given.
    """
    microbatches = whole(microbatches, "microbatches")

    def init(params: Params, state: State) -> Any:
        chosen = partition(params, only)[0]
        if not lookahead:
            return tx.init(chosen)
        return {"optimizer": tx.init(optax.LookaheadParams.init_synced(chosen)), "slow": chosen}

    def apply(carry: Carry, batch: Batch, *, key: Key, step: Array) -> tuple[Carry, Metrics]:
        chosen, rest = partition(carry.params, only)

        def loss(chosen: Params, state: State, batch: Batch, key: Key) -> tuple[Float[Array, ""], Aux]:
            return objective(_whole(carry.params, chosen, rest), state, batch, key=key, train=True, step=step)

        def gradient(chosen: Params, *args: Any) -> tuple[tuple[Float[Array, ""], Params], Aux]:
            (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(chosen, *args)
            return (value, grads), aux

        def at(function: Callable[..., Any]) -> Callable[[Params], Any]:
            whole = _accumulated(function, microbatches)
            return lambda params: whole(params, carry.state, batch, key)

        value_of, gradient_of = at(loss), at(gradient)
        (value, grads), aux = gradient_of(chosen)
        told = {"value": value, "value_fn": lambda x: value_of(x)[0], "grad_fn": lambda x: gradient_of(x)[0][1]}
        new, memory = _moved(tx, grads, carry.memory, chosen, lookahead, told)
        metrics = {**aux.metrics, "gradient_norm": Mean(global_norm(grads), jnp.int32(1))}
        return Carry(_whole(carry.params, new, rest), aux.state, memory), metrics

    def view(memory: Any, seen: View) -> View:
        chosen, rest = partition(seen.params, only)
        shown = memory["slow"] if lookahead else chosen
        shown = shown if evaluated is None else evaluated(memory["optimizer"] if lookahead else memory, shown)
        return seen if shown is chosen else seen._replace(params=_whole(seen.params, shown, rest))

    return Update(init, apply, view)


def _whole(like: Any, chosen: Params, rest: Params) -> Any:
    """What `partition` made two of, as the kind of tree that it was: a dict, or a library's own."""
    both = merge(chosen, rest)
    return both if jax.tree.structure(both) == jax.tree.structure(like) else fitted(like, both)


def _moved(
    tx: Transformation, grads: Params, memory: Any, params: Params, lookahead: bool, told: Mapping[str, Any]
) -> tuple[Params, Any]:
    """The params after the optimiser's update, and its new memory."""
    if not lookahead:
        updates, memory = transform(tx, grads, memory, params, **told)
        return optax.apply_updates(params, updates), memory
    pair = optax.LookaheadParams(fast=params, slow=memory["slow"])
    updates, inner = transform(tx, grads, memory["optimizer"], pair, **told)
    pair = optax.apply_updates(pair, updates)
    return pair.fast, {"optimizer": inner, "slow": pair.slow}


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
    times = whole(times, "repeated: times")

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
    number(decay, "reported: decay", "[0, 1]")

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


def _accumulated(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """`function`, (values, aux), with its values averaged over `count` equal parts of the batch, metrics summed."""
    if count == 1:
        return function

    def accumulate(params: Params, state: State, batch: Batch, key: Key) -> tuple[Any, Aux]:
        parts = _parts(batch, count)
        sums, metrics = None, None
        for i in range(count):
            part = jax.tree.map(lambda x: x[i], parts)  # noqa: B023
            values, aux = function(params, state, part, jax.random.fold_in(key, i))
            state, weight = aux.state, _weight(aux, batch)
            new = weight, jax.tree.map(lambda x: weight * x, values)  # noqa: B023
            sums = new if sums is None else jax.tree.map(jnp.add, sums, new)
            metrics = aux.metrics if metrics is None else jax.tree.map(jnp.add, metrics, aux.metrics)
        total, summed = sums
        return jax.tree.map(lambda s, x: (s / total).astype(x.dtype), summed, values), Aux(state, metrics)

    return accumulate


def _parts(batch: Batch, count: int) -> Batch:
    """The batch cut into `count` equal parts, on a new first axis."""
    sizes = {path: jnp.shape(leaf)[:1] for path, leaf in named_leaves(batch)}
    if len({*sizes.values(), ()}) != 2 or () in sizes.values():
        raise ValueError(f"microbatches: all of the batch must have one first axis, that of its rows, got {sizes}")
    ((size,), *_) = sizes.values()
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


def ema_update(decay: Float[Array, ""] | float, *, only: Pattern = "**", warmup: bool = True) -> Update:
    """Average params and model state with decay min(decay, (1 + t)/(10 + t)) at step t.

    Its memory is the average of what `only` names (of the state, what lies at paths that it names there), in float32
    at least; its view has them in place of the live ones, in their dtype. Decay 1 freezes the average; the decay may be
    traced. The warm-up lets the average forget the random start quickly; without it the decay is constant, as in
    `optax.incremental_update(new, average, 1 − decay)`. It goes last in a chain, and averages the params that gradients
    are taken at, of a lookahead the fast ones. Raises `ValueError` unless 0 ≤ decay ≤ 1.
    """
    number(decay, "decay", "[0, 1]")

    def init(params: Params, state: State) -> Any:
        return jax.tree.map(jnp.copy, averaged(params, state))

    def averaged(params: Params, state: State) -> dict[str, Any]:
        chosen = {"params": partition(params, only)[0], "state": partition(state, only, strict=False)[0]}
        # Half precision would round a step of 1 − decay away.
        return jax.tree.map(lambda x: wide(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, chosen)

    def apply(carry: Carry, batch: Batch, *, key: Key, step: Array) -> tuple[Carry, Metrics]:
        now = decay
        if warmup:
            t = step.astype(jnp.float32)
            now = jnp.where(decay == 1, 1.0, jnp.minimum(decay, (1 + t) / (10 + t)))
        memory = ema(carry.memory, averaged(carry.params, carry.state), now)
        return carry._replace(memory=memory), {}

    def view(memory: Any, seen: View) -> View:
        parts = {"params": partition(seen.params, only), "state": partition(seen.state, only, strict=False)}
        now = {name: chosen for name, (chosen, _) in parts.items()}
        shown = jax.tree.map(lambda average, live: average.astype(live.dtype), memory, now)
        params = _whole(seen.params, shown["params"], parts["params"][1])
        return View(params, _whole(seen.state, shown["state"], parts["state"][1]), seen.report)

    return Update(init, apply, view)
