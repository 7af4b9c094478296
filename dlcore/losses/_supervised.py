"""The objective of supervised learning (lecture 3.9, 10.7, 10.13)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dlcore.losses._classification import label_weights
from dlcore.operands import equal_shapes, marks
from dlcore.types import Aux, Batch, Key, Mean, Model, Objective, Params, State

PerExample = Callable[..., Array]
"""`(outputs, targets) -> values`, with the batch axis first."""


def supervised(
    model: Model,
    loss: PerExample,
    metrics: Mapping[str, PerExample] | None = None,
    *,
    inputs: str | tuple[str, ...] = "image",
    targets: str = "label",
    penalty: Callable[[Params], Float[Array, ""]] | None = None,
    activity: Callable[[Any], Array] | None = None,
    class_weights: Float[Array, " c"] | None = None,
    ignore: int | None = None,
) -> Objective:
    """L = mean over the batch of loss(model(x), y), plus `penalty(params)`.

    `inputs` names what the model takes from the batch, several in their order: `inputs=("tokens", "mask")`.

    The mean is over the entries that `batch["where"]` marks, all of them if it is absent: a mask of rows [b], of tokens
    [b, t], or whatever shape the loss begins with. Labels equal to `ignore` are left out of it as well, and neither the
    loss nor a metric gets to see them. With `class_weights` [c] the loss is called with `weights=` and L is
    Σ_i w(y_i) ℓ_i / Σ_i w(y_i), as PyTorch's `weight=`. Where nothing counts L is the penalty alone.

    `activity` penalises what hidden layers put out (lecture 10.13): the model is one of `dlcore.nn.observe`,
    whose apply returns (outputs, {path: output of that layer}), and `activity` maps that dict to a penalty per row [b],
    or per site, which is averaged like the loss, with the same mask and weights, and added to L.

    Metrics are the data loss without penalties, `loss`, the means of `metrics`, and `activity`. Raises `ValueError` for
    a loss or metric without a batch axis, and for masks that are no prefix of its shape.
    """

    names = (inputs,) if isinstance(inputs, str) else inputs

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        labels, where = batch[targets], batch.get("where")
        given = tuple(batch[name] for name in names)
        given = given if where is None else jax.tree.map(lambda leaf: _finite(leaf, where), given)
        outputs, state = model.apply(params, state, *given, train=train, key=key)
        outputs, hidden = outputs if activity is not None else (outputs, {})
        if ignore is not None:
            where = _kept(labels, ignore, where)
        if where is not None:
            labels = _only(labels, where, jnp.zeros_like)
            # Select both ways, so that neither a value nor a gradient behind the mask gets through.
            outputs, hidden = jax.tree.map(lambda h: _only(h, where, jax.lax.stop_gradient), (outputs, hidden))
        weights = None if class_weights is None else label_weights(labels, class_weights)
        values = loss(outputs, labels, **({} if weights is None else {"weights": class_weights}))
        data = _average(values, where)
        if weights is not None:
            equal_shapes("supervised", loss=values, class_weights_of_labels=weights)
            data = data._replace(count=_average(weights, where).total)
        total, found = _ratio(data), {"loss": data}
        if activity is not None:
            each = _spread(activity(hidden), values.shape)
            found["activity"] = _average(each if weights is None else each * weights, where)._replace(count=data.count)
            total += _ratio(found["activity"])
        found |= {name: _average(metric(outputs, labels), where) for name, metric in (metrics or {}).items()}
        total = total if penalty is None else total + penalty(params)
        plain = where is None and weights is None
        return total, Aux(state, found, None if plain else jnp.asarray(data.count, jnp.float32))

    return objective


def _average(values: Array, where: Array | None) -> Mean:
    """The mean over what a mask of the leading axes marks."""
    return Mean.of(values, marks("supervised", where, jnp.shape(values), prefix=True))


def _spread(penalty: Array, shape: tuple[int, ...]) -> Array:
    """A penalty per row, or per site, repeated over the entries of the loss."""
    given = jnp.shape(penalty)
    if not given or given != shape[: len(given)]:
        raise ValueError(f"supervised: activity gives shape {given}, expected {shape[:1]}, or what {shape} begins with")
    return jnp.broadcast_to(penalty.reshape(given + (1,) * (len(shape) - len(given))), shape)


def _ratio(mean: Mean) -> Float[Array, ""]:
    """total / count, 0 where nothing counts."""
    counted = mean.count > 0
    return jnp.where(counted, mean.total / jnp.where(counted, mean.count, 1), 0.0)


def _kept(labels: Array, ignore: int, where: Array | None) -> Bool[Array, "..."]:
    """The mask without the labels to ignore, of the labels' shape."""
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"supervised: ignore={ignore} is an integer label, but the targets are {labels.dtype}")
    kept = labels.astype(jnp.promote_types(labels.dtype, jnp.int32)) != ignore
    marked = marks("supervised", where, labels.shape, prefix=True)
    return kept if marked is None else kept & marked


def _only(x: Array, where: Array, other: Callable[[Array], Array]) -> Array:
    """`x` where the mask of its leading axes holds, `other(x)` elsewhere; all of `x` if the mask has other axes."""
    if jnp.shape(x)[: jnp.ndim(where)] != jnp.shape(where):
        return x
    return jnp.where(marks("supervised", where, jnp.shape(x), prefix=True), x, other(x))


def _finite(x: Array, where: Array) -> Array:
    """Inputs with 0 for what is not finite behind the mask, where it would spread through a normalisation."""
    return _only(x, where, lambda x: jnp.where(jnp.isfinite(x), x, 0))
