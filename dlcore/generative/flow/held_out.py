"""A flow of grey levels or of points: its start, and the numbers of a held-out split (lecture 28).

Grey levels are dequantised by row, so that what is found does not depend on batches: `nll_nats` and `bits_per_dim` of
the discrete image are upper bounds in expectation. Points have their exact density in nats, and no bits.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Shaped

from dlcore.evaluation import Nats, summary
from dlcore.generative.flow._dequantization import Dequantizer, by_row
from dlcore.generative.flow._pixels import dequantize, discrete_nats
from dlcore.generative.flow.density import log_prob, round_trip_error
from dlcore.types import Batch, Bijector, Key, Mean, Params, State

Sums = dict[str, Any]


def init(
    key: Key, bijector: Bijector, dequantizer: Dequantizer, x: Shaped[Array, "b ..."], levels: int | None
) -> Params:
    """Params of the flow, which may look at x, and in the branch `dequantizer` those of the noise, if it learns.

    x are grey levels, or points where `levels` is None.
    """
    start = jax.random.fold_in(key, 0)
    y = x if levels is None else dequantize(x, jax.random.uniform(start, x.shape), levels)
    learned = dequantizer.init(jax.random.fold_in(key, 2), x)
    params = bijector.init(jax.random.fold_in(key, 1), y)
    return {**params, "dequantizer": learned} if learned else params


class HeldOut(NamedTuple):
    """What a fit takes to measure: sums over a batch, the fuller ones of the test, and what becomes of them."""

    evaluate: Callable[[Params, State, Batch, Key], Sums]
    evaluate_test: Callable[[Params, State, Batch, Key], Sums]
    summarize: Callable[[Mapping[str, Any]], dict[str, float]]


def held_out(
    bijector: Bijector,
    dequantizer: Dequantizer,
    row_keys: Callable[[Key, Array], Key],
    *,
    target: str,
    levels: int | None,
    dims: int,
) -> HeldOut:
    """The protocol for `batch[target]`: −log p by row, in the test the error of f⁻¹(f(x)) besides.

    `row_keys(key, rows)` gives every row a key of its own. Bits count `dims` dimensions; nats pay for all entries of
    the target, those of an added border as well.
    """

    def values(params: Params, batch: Batch, key: Key) -> tuple[Array, Any]:
        """What the flow sees of a batch, and the log-density of the noise in it."""
        if levels is None:
            return batch[target], 0.0
        keys = row_keys(key, batch["row"])
        u, log_q = by_row(dequantizer, keys, params.get("dequantizer", {}), batch[target])
        return dequantize(batch[target], u, levels), log_q

    def nats_of(params: Params, y: Array, log_q: Any) -> Float[Array, " b"]:
        log_density, paid = log_prob(bijector, params, y) - log_q, math.prod(y.shape[1:])
        return -log_density if levels is None else discrete_nats(log_density, paid, levels)

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> Sums:
        return {"nats": Nats.of(nats_of(params, *values(params, batch, key)), batch["where"])}

    def evaluate_test(params: Params, state: State, batch: Batch, key: Key) -> Sums:
        error = round_trip_error(bijector, params, values(params, batch, key)[0])
        return evaluate(params, state, batch, key) | {"error": Mean.of(error, batch["where"])}

    def summarize(sums: Mapping[str, Any]) -> dict[str, float]:
        found = {"round_trip_error": float(sums["error"].value())} if "error" in sums else {}
        ruler = summary(sums["nats"], dims)
        # The density of points has nats but no bits per grey level.
        return {name: value for name, value in ruler.items() if levels or "bits" not in name} | found

    return HeldOut(evaluate, evaluate_test, summarize)
