"""The contracts every room of dlcore is written against.

Everything is a small tuple of pure functions. A layer, a block and a network are all a `Model`;
an `Objective` turns a batch into a scalar; an `Update` changes params and state by a batch.
State goes in and comes out, randomness is an argument, and nothing is mutated.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from dlcore.operands import Discrete, marks, safe, wide

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

    `init(key, *inputs) -> (params, state)` uses only the shapes and dtypes of its inputs; a wrapped module of another
    library may start from the values of arrays.
    `apply(params, state, *inputs, train=False, key=None) -> (outputs, state)` returns the state
    unchanged unless `train=True`; a stochastic layer asked to train without a key raises `ValueError`.

    `kind` says what it is, as the name of the factory in snake case: "batch_norm", "max_pool", "serial".
    Parts without a name of their own are called by it, and rules know parts by it (`dlcore.nn.intercept`).

    A memory of what a layer has been given, such as the keys and values of an attention that decodes one token after
    another, may move in evaluation as well. Whoever calls `apply` several times for one sequence hands the state on,
    in the carry of a `lax.scan` for instance; evaluation begins every batch from the trained state, and drops what
    comes out. Networks of `dlcore.nn.combine` pass on whatever their parts return.
    """

    init: Callable[..., tuple[Params, State]]
    apply: Callable[..., tuple[Any, State]]
    kind: str = "layer"


class Bijector(NamedTuple):
    """One step of a normalising flow, or the whole flow. Forward maps data to latent.

    `init(key, x) -> params` may look at the values of `x` (data-dependent start);
    `forward(params, x) -> (z, log_det)` and `inverse(params, z) -> (x, log_det)`, with `log_det`
    of shape [B] in nats, each the log absolute determinant of its own direction's Jacobian. `kind` is as in `Model`.

    One that is `conditional` is another bijection for every value of a condition: all three functions then take one
    more array [B, ...], last, such as one-hot classes or a code [B, c]; the others take none.
    """

    init: Callable[..., Params]
    forward: Callable[..., tuple[Array, Float[Array, " b"]]]
    inverse: Callable[..., tuple[Array, Float[Array, " b"]]]
    kind: str = "bijector"
    conditional: bool = False


class Mean(NamedTuple):
    """A mean kept as what adds up, `total` and `count`: add two, or sum over devices, field by field.

    The count is an int32 (a sum of weights is a float), exact to 2³¹ − 1 entries; `value` is NaN after an overflow. The
    total is a float32: a running sum of n of them is off by n · 6e-8 of itself at most. Evaluation, which may have
    many batches, adds both in 64 bits on the host.
    """

    total: Array
    count: Array

    @staticmethod
    def of(values: Num[Array, " *s"] | Bool[Array, " *s"], where: Discrete[Array, " *s"] | None = None) -> "Mean":
        """The mean of `values`, in float32 at least, over the entries that `where` marks if it is given.

        Other entries may be NaN. Raises `ValueError` unless the mask has the shape of the values.
        """
        where = marks("Mean.of", where, jnp.shape(values))
        count = jnp.int32(values.size) if where is None else where.sum(dtype=jnp.int32)
        return Mean(safe(wide(values, "Mean.of"), where).sum(), count)

    def value(self) -> Array | np.ndarray:
        """total / count; NaN when nothing was counted."""
        xp = np if isinstance(self.count, np.ndarray | np.generic) else jnp
        counted = self.count > 0
        return xp.where(counted, self.total / xp.where(counted, self.count, 1), xp.nan)


class Aux(NamedTuple):
    """What an objective returns beside the loss: the new model state, metrics (name → `Mean`), and its weight.

    `weight` says what the loss is a mean over: the number of entries that count, or the sum of their weights; it must
    not depend on the params. Where a batch is processed in parts, the parts' gradients are averaged with it, so that
    L = Σ_i weight_i L_i / Σ_i weight_i has to be the loss of the whole batch. That holds for a mean over entries plus
    penalties on the params, which count once. None means that all parts weigh the same: a plain mean over the rows.
    A part in which nothing counts has weight 0 and must have a finite gradient.
    """

    state: State
    metrics: Mapping[str, Mean]
    weight: Float[Array, ""] | None = None


@runtime_checkable
class Objective(Protocol):
    """`(params, state, batch, *, key, train, step) -> (loss, Aux)`; the scalar loss is what is differentiated.

    `step` is the number of the training step, from 0, for weights that warm up; None, outside of training, is after
    every warm-up.
    """

    def __call__(
        self,
        params: Params,
        state: State,
        batch: Batch,
        *,
        key: Key | None,
        train: bool,
        step: Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, ""], Aux]: ...


class Carry(NamedTuple):
    """What one update changes: the params, the model state, and a memory of its own."""

    params: Params
    state: State
    memory: Any


class View(NamedTuple):
    """What an evaluation, a sample or a restore sees: params and state, averaged where an update averages, and numbers
    that updates report (name → `Mean`)."""

    params: Params
    state: State
    report: Mapping[str, Mean]


def _unchanged(memory: Any, view: View) -> View:
    return view


class Update(NamedTuple):
    """One part of a training step, which owns its memory: optimiser state, moving averages, running reports.

    `init(params, state) -> memory`; `apply(carry, batch, *, key, step) -> (carry, metrics)`;
    `view(memory, view) -> view` puts into a view what the memory knows better.
    """

    init: Callable[[Params, State], Any]
    apply: Callable[..., tuple[Carry, Mapping[str, Mean]]]
    view: Callable[[Any, View], View] = _unchanged


class TrainState(NamedTuple):
    """Everything that training changes, as arrays only.

    `key` holds raw key data and stays the same all along: each step folds `step` into it, so a resumed run replays the
    same random stream. `memory` is that of the update.
    """

    step: Array
    key: Array
    params: Params
    state: State
    memory: Any
