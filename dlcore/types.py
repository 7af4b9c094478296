"""The contracts every room of dlcore is written against.

Everything is a small tuple of pure functions. A layer, a block and a network are all a `Model`;
an `Objective` turns a batch into a scalar; an `Update` maps one training state to the next.
State goes in and comes out, randomness is an argument, and nothing is mutated.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

Params: TypeAlias = Mapping[str, Any]
"""Learned arrays: a nested dict whose path names the leaf, e.g. `params["block1"]["conv"]["kernel"]`."""

State: TypeAlias = Mapping[str, Any]
"""Arrays that training changes without a gradient, such as running statistics; nested like `Params`."""

Batch: TypeAlias = Mapping[str, Any]
"""Arrays with a common leading batch axis; `where` (bool, optional) marks the rows that are real."""

Key: TypeAlias = jax.Array
"""A JAX pseudo-random key."""

Input: TypeAlias = jax.Array | np.ndarray | jax.ShapeDtypeStruct
"""What `Model.init` takes: anything with a shape and a dtype."""


class Model(NamedTuple):
    """A layer, a block or a whole network as two pure functions.

    `init(key, *inputs) -> (params, state)` uses only the shapes and dtypes of its inputs.
    `apply(params, state, *inputs, train=False, key=None) -> (outputs, state)` returns the state
    unchanged unless `train=True`; a stochastic layer asked to train without a key raises `ValueError`.
    """

    init: Callable[..., tuple[Params, State]]
    apply: Callable[..., tuple[Any, State]]


class Bijector(NamedTuple):
    """One step of a normalising flow, or the whole flow. Forward maps data to latent.

    `init(key, x) -> params` may look at the values of `x` (data-dependent start);
    `forward(params, x) -> (z, log_det)` and `inverse(params, z) -> (x, log_det)`, with `log_det`
    of shape [B] in nats, each the log absolute determinant of its own direction's Jacobian.
    """

    init: Callable[..., Params]
    forward: Callable[[Params, Array], tuple[Array, Float[Array, " b"]]]
    inverse: Callable[[Params, Array], tuple[Array, Float[Array, " b"]]]


class Mean(NamedTuple):
    """A mean kept as what adds up exactly: `total` and `count`. Add two by adding their fields."""

    total: Array
    count: Array

    @staticmethod
    def of(values: Num[Array, " *shape"], where: Bool[Array, " *shape"] | None = None) -> "Mean":
        """The mean of `values`, over the entries that `where` marks if it is given."""
        values = values.astype(jnp.float32)
        if where is None:
            return Mean(values.sum(), jnp.float32(values.size))
        return Mean(jnp.where(where, values, 0.0).sum(), where.sum(dtype=jnp.float32))

    def value(self) -> Array:
        """total / count; NaN when nothing was counted."""
        return self.total / self.count


class Aux(NamedTuple):
    """What an objective returns beside the loss: the new model state and metrics (name → `Mean`)."""

    state: State
    metrics: Mapping[str, Mean]


@runtime_checkable
class Objective(Protocol):
    """`(params, state, batch, *, key, train) -> (loss, Aux)`; the scalar loss is what is differentiated."""

    def __call__(
        self, params: Params, state: State, batch: Batch, *, key: Key | None, train: bool
    ) -> tuple[Float[Array, ""], Aux]: ...


class TrainState(NamedTuple):
    """Everything that training changes, as arrays only.

    `key` holds raw key data and stays the same all along: each step folds `step` into it, so a
    resumed run replays the same random stream. `opt` holds one optimiser state per name,
    `ema` the averaged `params` and `state` (empty when no average is kept).
    """

    step: Array
    key: Array
    params: Params
    state: State
    opt: Mapping[str, Any]
    ema: Mapping[str, Any]


Update: TypeAlias = Callable[[TrainState, Batch, Key], tuple[TrainState, Mapping[str, Mean]]]
"""One part of a training step: `(train_state, batch, key) -> (train_state, metrics)`."""
