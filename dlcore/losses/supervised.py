"""The objective of supervised learning (lecture 3.9, 10.7)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.types import Aux, Batch, Key, Mean, Model, Objective, Params, State

PerExample = Callable[[Any, Any], Array]
"""`(outputs, targets) -> values`, with the batch axis first."""


def supervised(
    model: Model,
    loss: PerExample,
    metrics: Mapping[str, PerExample] | None = None,
    *,
    inputs: str = "image",
    targets: str = "label",
    penalty: Callable[[Params], Float[Array, ""]] | None = None,
) -> Objective:
    """L = mean over the batch of loss(model(x), y), plus `penalty(params)`.

    The mean is over the rows that `batch["where"]` marks, all of them if it is absent, and over all sites of a
    row. Metrics are the data loss without the penalty, `loss`, and the means of `metrics`.
    """

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool
    ) -> tuple[Float[Array, ""], Aux]:
        outputs, state = model.apply(params, state, batch[inputs], train=train, key=key)
        where = batch.get("where")

        def mean(function: PerExample) -> Mean:
            values = function(outputs, batch[targets])
            if where is None:
                return Mean.of(values)
            return Mean.of(values, jnp.broadcast_to(where.reshape(-1, *[1] * (values.ndim - 1)), values.shape))

        data = mean(loss)
        total = data.value() if penalty is None else data.value() + penalty(params)
        return total, Aux(state, {"loss": data} | {name: mean(f) for name, f in (metrics or {}).items()})

    return objective
