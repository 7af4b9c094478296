"""Several classifiers of the same inputs, trained at once as one model whose logits stand side by side."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from dlcore.data import DataSpec
from dlcore.evaluation import correct
from dlcore.nn import compose
from dlcore.train._builders import fit_model
from dlcore.train._system import Fit
from dlcore.types import Batch, Key, Mean, Model, Objective, Params, State

Loss = Callable[[Any, Any], Any]
"""Of logits [..., classes] and labels [...], such as `softmax_cross_entropy`."""


class SideBySide(NamedTuple):
    """Networks whose `model` gives logits [b, networks, classes], in the order of `names`."""

    names: tuple[str, ...]
    model: Model

    def summed(self, loss: Loss) -> Loss:
        """The sum of a loss over the networks, which gives each the gradient that it would have alone."""
        return lambda logits, labels: _each(loss, logits, labels).sum(-1)

    def evaluate(self, loss: Loss, inputs: str = "x") -> Callable[[Params, State, Batch, Key], dict[str, Any]]:
        """The `evaluate` of a fit: accuracy and mean loss by name, which `summary` reads, and `nll_nats` of all."""

        def evaluate(params: Params, state: State, batch: Batch, key: Key) -> dict[str, Any]:
            logits, labels, where = self.model.apply(params, state, batch[inputs])[0], batch["label"], batch["where"]
            right, lost = _each(correct, logits, labels), _each(loss, logits, labels)
            of = {name: (Mean.of(right[:, i], where), Mean.of(lost[:, i], where)) for i, name in enumerate(self.names)}
            return {**of, "nll_nats": Mean.of(lost.mean(-1), where)}

        return evaluate

    def summary(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """`accuracy_NAME` and `nll_nats_NAME` of every network, and the mean `nll_nats`."""
        found = {"nll_nats": float(sums["nll_nats"].value())}
        for name in self.names:
            right, nats = (float(mean.value()) for mean in sums[name])
            found |= {f"accuracy_{name}": right, f"nll_nats_{name}": nats}
        return found

    def fit(self, objective: Objective, loss: Loss, config: Any, spec: DataSpec, **parts: Any) -> Fit:
        """`fit_model` of all of them on standardised inputs `x`, the best by the loss of validation."""
        options = {"evaluate": self.evaluate(loss), "summarize": self.summary, "monitor": ("nll_nats", "min"), **parts}
        return fit_model(self.model, objective, config, spec, inputs="x", **options)


def side_by_side(parts: Mapping[str, Model]) -> SideBySide:
    """The networks as one: [b, ...] to logits [b, networks, classes]."""
    model = compose(lambda call, x: jnp.stack([call(name, x) for name in parts], axis=1), **parts)
    return SideBySide(tuple(parts), model)


def _each(function: Loss, logits: Any, labels: Any) -> Any:
    """[b, networks]: the function of every network's logits and the labels [b]."""
    return function(logits, jnp.broadcast_to(labels[:, None], logits.shape[:2]))
