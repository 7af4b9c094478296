"""The numbers of a held-out split: the bound and its parts, the loss, and both by time (lecture 29.3)."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dlcore.evaluation import Nats, joint_nats, summary
from dlcore.generative.diffusion.bound import Reverse, estimate, spread, term
from dlcore.generative.diffusion.objective import Predict, error
from dlcore.generative.diffusion.process import KINDS, denoise, diffuse, target
from dlcore.generative.diffusion.schedule import at, told
from dlcore.generative.diffusion.weighting import Table
from dlcore.types import Batch, Key, Mean, Model, Params, State

Sums = dict[str, Any]


class HeldOut(NamedTuple):
    """What a fit takes to measure: sums over a batch, those of the test, and what becomes of them."""

    evaluate: Callable[[Params, State, Batch, Key], Sums]
    evaluate_test: Callable[[Params, State, Batch, Key], Sums]
    summarize: Callable[[Mapping[str, Any]], dict[str, float]]


def held_out(
    network: Model,
    reverse: Reverse,
    weights: Table,
    row_keys: Callable[[Key, Array], Key],
    *,
    dims: int,
    classes: int,
    draws: int,
    test_draws: int,
) -> HeldOut:
    """The protocol for images `batch["image"]` in [−1, 1] of `dims` sub-pixels.

    The bound takes `draws` times per image, in the test `test_draws`, beside t = 1; of a network that is told one of
    `classes` it counts −log p(class) as well, and so bounds −log p(x). `loss` is the objective without dropped labels,
    whose `weights` are those of training. `row_keys(key, rows)` gives every row a key of its own.
    """
    schedule = reverse.schedule

    def evaluate(params: Params, state: State, batch: Batch, key: Key, draws: int) -> Sums:
        x, where, rows = batch["image"], batch["where"], batch["row"]
        given = (batch["label"],) if classes else ()
        keys = [jax.random.fold_in(key, i) for i in range(4)]

        def predict(x: Array, t: Array) -> Array:
            return network.apply(params, state, x, t, *given)[0]

        parts = estimate(reverse, predict, x, row_keys(keys[1], rows), spread(keys[0], rows), draws=draws)
        eps = jax.vmap(lambda k: jax.random.normal(k, x.shape[1:]))(row_keys(keys[2], rows))
        t = 1 + (spread(keys[3], rows) * schedule.steps).astype(jnp.int32)
        prediction = predict(diffuse(schedule, x, t, eps), told(schedule, t))
        losses = error(schedule, reverse.kind, prediction, x, t, eps)
        losses = at(weights, t, losses, first=1) * losses
        nats = {f"{name}_nats": Mean.of(value, where) for name, value in parts._asdict().items()}
        bound = Nats.of(joint_nats(parts.total(), classes), where)
        return {"bound": bound, "loss": Mean.of(losses, where), **nats}

    def summarize(sums: Mapping[str, Any]) -> dict[str, float]:
        means = {name: float(value.value()) for name, value in sums.items() if name != "bound"}
        return means | summary(sums["bound"], dims)

    protocols = [functools.partial(evaluate, draws=count) for count in (draws, test_draws)]
    return HeldOut(*protocols, summarize)


def by_time(
    reverse: Reverse, predict: Predict, x0: Float[Array, "n *shape"], times: Int[np.ndarray, " k"], *, key: Key
) -> tuple[dict[str, Float[np.ndarray, " k"]], Float[np.ndarray, " k"]]:
    """Mean squared errors by kind of prediction, and terms of the bound in nats per example, at every one of `times`.

    What the network predicts is turned into the other kinds; the noise is the same at all times.
    """
    eps, schedule = jax.random.normal(key, x0.shape), reverse.schedule

    @jax.jit
    def at_time(t: Array) -> tuple[dict[str, Array], Array]:
        t = jnp.full(len(x0), t)
        x_t = diffuse(schedule, x0, t, eps)
        found = denoise(schedule, reverse.kind, x_t, t, predict(x_t, told(schedule, t)))
        guesses = [(kind, target(schedule, kind, found.x0, t, found.eps)) for kind in KINDS]
        errors = {kind: error(schedule, kind, guess, x0, t, eps).mean() for kind, guess in guesses}
        return errors, term(reverse, predict, x0, t, eps).mean()

    errors, terms = zip(*(at_time(jnp.int32(t)) for t in times), strict=True)
    return {kind: np.array([float(e[kind]) for e in errors]) for kind in KINDS}, np.array(terms, np.float32)
