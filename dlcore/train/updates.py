"""The parts that a training step is composed of (lecture 6, 11.2)."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dlcore.operands import known
from dlcore.optim.extra_arguments import Transformation, transform
from dlcore.train.state import WHOLE, fast, replace, select
from dlcore.types import Aux, Batch, Key, Mean, Objective, Params, TrainState, Update


def gradient_update(objective: Objective, tx: Transformation, *, name: str = WHOLE, microbatches: int = 1) -> Update:
    """θ ← θ + tx(∇_θ L): one optimiser step on the params that `name` selects.

    `name="params"` differentiates with respect to all params; any other name is a branch of them,
    the rest being held constant, and names the optimiser state as well. With `microbatches` = m the
    batch is cut into m equal parts whose gradients are averaged (the model state passing through them
    in turn), which needs 1/m of the activation memory. Parts weigh what the objective says that they count, see `Aux`,
    so that masks are free to mark more of one part than of another, or nothing. Adds the metric `gradient_norm`.

    Optimisers of optax that ask for more than the gradient have it, all of the same batch, model state and key:
    `value` = L and `grad` = ∇L, `value_fn` and `obj_fn` (params → L) and `grad_fn` (params, i → ∇L). For
    `optax.lookahead` the params, or the branch, are `optax.LookaheadParams`: the objective sees the fast ones.

    Raises `ValueError` when m does not divide the batch, for parts of a batch with `where` that the objective
    gives no weight, and for an optimiser that needs what it is not given.
    """
    if microbatches < 1:
        raise ValueError(f"microbatches must be at least 1, got {microbatches}")

    def update(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, dict[str, Mean]]:
        def loss(branch: Params, model_state: Any, batch: Batch, key: Key) -> tuple[Float[Array, ""], Aux]:
            params = fast(replace(state.params, name, branch))
            return objective(params, model_state, batch, key=key, train=True)

        def gradient(branch: Params, *args: Any) -> tuple[tuple[Float[Array, ""], Params], Aux]:
            (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(branch, *args)
            return (value, grads), aux

        def at(function: Callable[..., Any]) -> Callable[[Params], Any]:
            whole = _accumulated(function, microbatches)
            return lambda branch: whole(branch, state.state, batch, key)

        branch, value_of, gradient_of = select(state.params, name), at(loss), at(gradient)
        (value, grads), aux = gradient_of(fast(branch))
        told = {"value": value, "value_fn": lambda x: value_of(x)[0], "grad_fn": lambda x: gradient_of(x)[0][1]}
        updates, opt = transform(tx, grads, state.opt[name], branch, **told)
        params = replace(state.params, name, optax.apply_updates(branch, updates))
        metrics = {**aux.metrics, "gradient_norm": Mean(optax.tree.norm(grads), jnp.int32(1))}
        return state._replace(params=params, state=aux.state, opt={**state.opt, name: opt}), metrics

    return update


EMPTY = 1e-20
"""Weight of a part in which nothing counts: nothing beside other parts, but all penalties if no part has more."""


def _accumulated(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """`function`, (values, aux), with its values averaged over `count` equal parts of the batch, metrics summed."""
    if count == 1:
        return function

    def accumulate(branch: Params, model_state: Any, batch: Batch, key: Key) -> tuple[Any, Aux]:
        parts = _parts(batch, count)
        sums, metrics = None, None
        for i in range(count):
            part = jax.tree.map(lambda x: x[i], parts)  # noqa: B023
            values, aux = function(branch, model_state, part, jax.random.fold_in(key, i))
            model_state, weight = aux.state, _weight(aux, batch)
            new = weight, jax.tree.map(lambda x: weight * x, values)  # noqa: B023
            sums = new if sums is None else jax.tree.map(jnp.add, sums, new)
            metrics = aux.metrics if metrics is None else jax.tree.map(jnp.add, metrics, aux.metrics)
        total, summed = sums
        return jax.tree.map(lambda s, x: (s / total).astype(x.dtype), summed, values), Aux(model_state, metrics)

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


def ema(average: Any, new: Any, decay: Float[Array, ""] | float, copied: Collection[str] = ()) -> Any:
    """Exponential moving average θ̄ ← decay·θ̄ + (1 − decay)·θ, leaf by leaf (lecture 11.2 with λ = 1 − decay).

    decay 0 copies `new`, decay 1 freezes the average. Integer leaves are copied, and so is what lies below a name in
    `copied`: an average already, or a memory that averaging would falsify.
    """

    def leaf(path: Any, a: Array, b: Array) -> Array:
        if any(getattr(part, "key", None) in copied for part in path):
            return b
        return (decay * a + (1 - decay) * b).astype(b.dtype) if jnp.issubdtype(b.dtype, jnp.inexact) else b

    return jax.tree_util.tree_map_with_path(leaf, average, new)


def ema_update(decay: Float[Array, ""] | float, copied: Collection[str] = (), *, warmup: bool = True) -> Update:
    """Average params and model state with decay min(decay, (1 + t)/(10 + t)) at step t, except what `ema` copies.

    Decay 1 freezes the average; the decay may be traced. The warm-up lets the average forget the random start quickly;
    without it the decay is constant, as in `optax.incremental_update(new, average, 1 − decay)`. It goes last in a step.
    Raises `ValueError` unless 0 ≤ decay ≤ 1.
    """
    if known(decay) and not 0 <= decay <= 1:
        raise ValueError(f"decay must lie in [0, 1], got {decay}")

    def update(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, dict[str, Mean]]:
        _check_average(state)
        now = decay
        if warmup:
            step = state.step.astype(jnp.float32)
            now = jnp.where(decay == 1, 1.0, jnp.minimum(decay, (1 + step) / (10 + step)))
        return state._replace(ema=ema(state.ema, {"params": state.params, "state": state.state}, now, copied)), {}

    return update


def evaluation_update(of: Callable[[TrainState], Params]) -> Update:
    """Keep `of(state)` in place of the average: the params that an optimiser of its own kind wants to be judged by.

    `lambda s: optax.contrib.schedule_free_eval_params(s.opt["params"], s.params)` for schedule-free ones, or
    `lambda s: s.opt["params"].cache` for the centre of a transparent `optax.contrib.sam`. Model state is copied. It
    goes last in a step, instead of `ema_update`; create the state with `ema=True`.
    """

    def update(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, dict[str, Mean]]:
        _check_average(state)
        return state._replace(ema={"params": of(state), "state": state.state}), {}

    return update


def _check_average(state: TrainState) -> None:
    if not state.ema:
        raise ValueError("the training state keeps no average; create it with ema=True")
