"""The training objective, and guidance by dropped labels (lecture 29.2–29.3)."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dlcore.generative.check import in_range, like_examples
from dlcore.generative.diffusion.process import diffuse, target
from dlcore.generative.diffusion.schedule import Schedule, at, told
from dlcore.generative.diffusion.weighting import Weighting, by_name
from dlcore.losses import squared_error
from dlcore.operands import equal_shapes
from dlcore.setting import Number
from dlcore.types import Aux, Batch, Key, Mean, Model, Objective, Params, State

Predict: TypeAlias = Callable[..., Array]
"""`(x_t, time, ...) -> prediction`, with time [n] what `told` says: 1 … T of the whole diffusion, as integers."""


def draw_times(key: Key, steps: int, num: int) -> Int[Array, " num"]:
    """t = 1 … T, each uniform over all of them, evenly spread over a batch (Kingma et al. 2021, appendix I.1).

    One uniform shift serves the batch: t_i = 1 + ⌊T · frac(u + i/n)⌋. That makes the loss quieter.
    """
    share = (jax.random.uniform(key) + jnp.arange(num) / num) % 1.0
    return jnp.clip(1 + (steps * share).astype(jnp.int32), 1, steps)


def drop_labels(key: Key, labels: Int[Array, " n"], null: int, rate: Number) -> Int[Array, " n"]:
    """Each label exchanged for `null` with probability `rate`, so that one network learns both scores (Ho & Salimans
    2022, algorithm 1). The rate may be traced. Raises `ValueError` unless 0 ≤ rate ≤ 1, where it is known.
    """
    in_range("drop_labels", "rate", rate, lambda r: 0 <= r <= 1, "lie in [0, 1]")
    return jnp.where(jax.random.bernoulli(key, rate, labels.shape), null, labels)


def guided(conditional: Array, unconditional: Array, scale: Number) -> Array:
    """(1 − w) · unconditional + w · conditional: w = 0 and 1 are the two themselves, w > 1 sharpens; w may be traced.

    Source: Ho & Salimans 2022, eq. 6, whose w is one less. The predictions x_0, ε and v are affine in each other at
    given x_t, so this is the same for all of them. Raises `ValueError` for predictions of different shapes.
    """
    equal_shapes("guided", conditional=conditional, unconditional=unconditional)
    in_range("guided", "scale", scale, np.isfinite, "be finite")
    return unconditional + scale * (conditional - unconditional)


def guided_predict(network: Model, classes: int, scale: Number) -> Predict:
    """`(x_t, time, params, state, label) -> prediction` of a network that is told one of `classes`, or null for none.

    `guided` by `scale`: two evaluations at once, but for 0 and 1, which take one. Without classes the network takes
    no label, and it has no effect.
    """

    def predict(x: Array, t: Array, params: Params, state: State, label: Array) -> Array:
        if not classes:
            return network.apply(params, state, x, t)[0]
        null = jnp.full_like(label, classes)
        if scale in (0, 1):
            return network.apply(params, state, x, t, label if scale else null)[0]
        twice = [jnp.concatenate(pair) for pair in ((x, x), (t, t), (label, null))]
        return guided(*jnp.split(network.apply(params, state, *twice)[0], 2), scale)

    return predict


def error(
    schedule: Schedule,
    kind: str,
    prediction: Float[Array, "n *shape"],
    x0: Float[Array, "n *shape"],
    t: Int[Array, " n"],
    eps: Float[Array, "n *shape"],
) -> Float[Array, " n"]:
    """‖target − prediction‖²/D per example, D being its number of elements. Raises `ValueError` for other shapes."""
    equal_shapes("error", x0=x0, prediction=prediction)
    return squared_error(prediction, target(schedule, kind, x0, t, eps)).reshape(len(x0), -1).mean(-1)


def simple(
    network: Model,
    schedule: Schedule,
    *,
    kind: str = "eps",
    weighting: str | Weighting = "uniform",
    data: str = "image",
    labels: str | None = None,
    null: int = 0,
    drop: Number = 0.0,
) -> Objective:
    """L = E_{t~U{1..T}, x_0, ε} λ_t ‖target − network(x_t, time)‖²/D, L_simple where λ_t = 1 (Ho et al. 2020, eq. 14).

    t = 1 is included. `weighting` is the name of λ, "uniform" or "p2", or a function of the schedule, such as
    `functools.partial(weighting.p2, gamma=0.5)`; λ_t multiplies the error of the prediction of this `kind`. The network
    is told `told(schedule, t)`, as by bound and samplers. `data` names the batch's field of x_0, images being scaled to
    [−1, 1]. With `labels`, the name of a field, the network has a third input, the label [n], which is `null` with
    probability `drop`. Metric: `loss`, weighted. Raises `ValueError` for an unknown name.
    """
    weights = (by_name(weighting) if isinstance(weighting, str) else weighting)(schedule)

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        x0, keys = batch[data], jax.random.split(key, 4)
        t = draw_times(keys[0], schedule.steps, len(x0))
        eps = jax.random.normal(keys[1], x0.shape, x0.dtype)
        given = [] if labels is None else [drop_labels(keys[2], batch[labels], null, drop)]
        if labels is not None:
            like_examples("simple", labels, batch[labels], x0)
        inputs = (diffuse(schedule, x0, t, eps), told(schedule, t), *given)
        prediction, new = network.apply(params, state, *inputs, train=train, key=keys[3])
        losses = error(schedule, kind, prediction, x0, t, eps)
        losses = at(weights, t, losses, first=1) * losses
        return losses.mean(), Aux(new, {"loss": Mean.of(losses)})

    return objective
