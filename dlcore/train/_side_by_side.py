"""Several classifiers of the same inputs, trained at once as one model whose logits stand side by side."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from dlcore.evaluation import correct
from dlcore.nn import compose
from dlcore.types import Batch, Key, Mean, Model, Params, State


def side_by_side(parts: Mapping[str, Model]) -> Model:
    """The networks as one: [b, ...] to logits [b, networks, classes], in the order of `parts`."""
    return compose(lambda call, x: jnp.stack([call(name, x) for name in parts], axis=1), **parts)


def of_each(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A function of logits [..., classes] and labels [...] for the logits [b, networks, classes] of `side_by_side`.

    The labels stay [b]. The sum of a loss over the networks gives each the gradient that it would have alone.
    """
    return lambda logits, labels: function(logits, jnp.broadcast_to(labels[:, None], logits.shape[:2]))


def classified_apart(
    model: Model, names: Sequence[str], nats: Callable[[Any, Any], Any], inputs: str = "x"
) -> Callable[[Params, State, Batch, Key], dict[str, Any]]:
    """The `evaluate` of `side_by_side`: accuracy and mean of `nats(logits, labels)` [b, networks] by name, `nll_nats`.

    `nll_nats` is the mean over the networks; `apart_summary` reads the others.
    """

    def evaluate(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
        logits, labels, where = model.apply(params, state, batch[inputs])[0], batch["label"], batch["where"]
        right, lost = of_each(correct)(logits, labels), nats(logits, labels)
        each = {name: (Mean.of(right[:, i], where), Mean.of(lost[:, i], where)) for i, name in enumerate(names)}
        return {**each, "nll_nats": Mean.of(lost.mean(-1), where)}

    return evaluate


def apart_summary(sums: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """`accuracy_NAME` and `nll_nats_NAME` of every network, and the mean `nll_nats`."""
    found = {"nll_nats": float(sums["nll_nats"].value())}
    for name in names:
        right, nats = (float(mean.value()) for mean in sums[name])
        found |= {f"accuracy_{name}": right, f"nll_nats_{name}": nats}
    return found
