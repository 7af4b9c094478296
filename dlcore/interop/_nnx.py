"""NNX modules as `Model`s."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
from flax import nnx

from dlcore.interop._axes import advice, bound
from dlcore.interop._matching import (
    abstract,
    check_leaves,
    check_names,
    lacks,
    overwritten,
    precision,
    signature,
    united,
    zeros,
)
from dlcore.interop._modes import places, several
from dlcore.interop._nnx_mode import Make, Mode, plain, refuse, split, unplaced
from dlcore.interop._nnx_taps import tapped_call
from dlcore.interop._unset_key import unset
from dlcore.keys import fold_name
from dlcore.tree import fitted, named_leaves
from dlcore.types import Key, Model, Params, State


def from_nnx(
    make: Make | tuple[Make, Make],
    *,
    flag: str | None = None,
    method: str = "__call__",
    axis_names: str | Sequence[str] = (),
) -> Model:
    """An NNX module given as a function of its random streams, e.g. `lambda rngs: Net(rngs=rngs)`.

    `nnx.Param` variables become params, others (`BatchStat`, ...) become state; both may also be given as `nnx.State`.

    Training or not is told by `module.train()` and `module.eval()`, and by arguments of the call and attributes of the
    modules that have a name in `FLAGS`, or the `flag` named ("!frozen" if it is False in
    training); or `make` is a pair (training, evaluation).

    Random streams are not kept: each call has those of `make(nnx.Rngs(key))`, and a call that takes `rngs` gets
    `nnx.Rngs(fold_name(key, "rngs"))`. Streams with a seed of their own, such as `nnx.Rngs(0)`, may not be drawn from.

    `nnx.Cache` variables move in evaluation as well, see `dlcore.types.Model`; they begin as the module leaves them,
    for attention behind `init_cache`, and `init` is given what one call takes: one token, if any.

    A variable that the call makes (`self.kl = Loss(...)`, `self.sow`), or writes without having read it, is an output:
    the state that comes out has its value, in evaluation as well. One that is made there is zero in the state if `init`
    is given inputs; without inputs there is no place for it, and it is dropped. `dlcore.nn.activations` gives the
    outputs of all submodules by path, and what is sown as `nnx.Intermediate`.

    `method` is another method than `__call__`, such as "decode".

    `axis_names` are those of `BatchNorm(axis_name=...)`; statistics are those of the global batch in any case. Raises
    `ValueError` for params or state whose paths, shapes or dtypes are not the module's (all floating params and inputs
    may have another floating dtype), for a module that is told its mode by a configuration only, and without a key when
    it draws random numbers.
    """
    makes = make if isinstance(make, tuple) else (make, make)
    if any(isinstance(make, nnx.Module) or not callable(make) for make in makes) or len(makes) != 2:
        raise ValueError(
            f"from_nnx: expected a function of the random streams, lambda rngs: Net(rngs=rngs), or a pair of them "
            f"(training, evaluation), got {type(make).__name__}"
        )
    training, evaluation = (
        Mode.of(unplaced(make), train, flag, method) for make, train in zip(makes, (True, False), strict=True)
    )
    if makes[0] is makes[1]:
        refuse(training)
    model = Nnx(training, evaluation, several(axis_names))
    return Model(model.init, model, "nnx")


@dataclasses.dataclass(frozen=True, eq=False)
class Nnx:
    """The `apply` of an NNX module."""

    training: Mode
    evaluation: Mode
    axis_names: tuple[str, ...]
    outputs: dict[Any, set[str]] = dataclasses.field(default_factory=dict)
    """What `written` found, by its arguments."""

    def init(self, key: Key, *inputs: Any, **named: Any) -> tuple[Params, State]:
        """Params and state; with inputs, also places for the variables that a call makes."""
        _, *parts = split(self.evaluation.make(nnx.Rngs(key)))
        params, _, state = map(plain, parts)
        made = self.made(params, state, inputs, named) if inputs or named else {}
        return params, united(state, zeros(made))

    taps: ClassVar[bool] = True
    """Whether `apply` takes `tap=`, see `dlcore.nn.tapped`."""

    def __call__(
        self,
        params: Params,
        state: State,
        *inputs: Any,
        train: bool = False,
        key: Key | None = None,
        tap: Callable[[str, Any], Any] | None = None,
        **named: Any,
    ) -> tuple[Any, State]:
        """The module's outputs and state, the output of every submodule passed through `tap(path, output)` on its way.

        What is sown as `nnx.Intermediate` the tap sees afterwards; what runs inside NNX's own transforms it does not.
        """
        values, variables = plain(params), plain(state)
        out, new = self.call(values, variables, inputs, named, train, key, tap)
        if lacks(new, variables):
            # Outputs of the other mode have a place as well.
            check_names("state", variables, known=united(new, self.made(values, variables, inputs, named)))
        stays = set() if train else self.evaluation.stays - self.written(values, variables, inputs, named)
        moved = {path: leaf for path, leaf in named_leaves(new) if path not in stays}
        return out, fitted(state, moved) if moved else state

    def call(
        self,
        params: Params,
        state: State,
        inputs: Any,
        named: Any,
        train: bool,
        key: Key | None,
        tap: Callable[[str, Any], Any] | None = None,
    ) -> tuple[Any, State]:
        """Outputs, and the state with every variable that the call makes."""
        mode = self.training if train else self.evaluation
        check_names("params", params, missing=mode.params, known=mode.params)
        check_names("state", state, missing=mode.state)
        dtype = precision(params, inputs, named)
        check_leaves("params", params, mode.params, dtype)
        check_leaves("state", state, mode.state, dtype)
        inputs, named = places("from_nnx", mode.forward, (*mode.flags, "rngs"), inputs, named)
        options = {**named, **mode.flags}
        if mode.takes_rngs and "rngs" not in named:
            options["rngs"] = nnx.Rngs(unset() if key is None else fold_name(key, "rngs"))

        def run() -> tuple[Any, Params, State]:
            module = mode.module(params, state, key)
            run = mode.forward if tap is None else functools.partial(tapped_call, mode.forward, tap)
            out = run(module, *inputs, **options)
            _, new_params, _, new = split(module)
            return out, plain(new_params), plain(new)

        with advice("from_nnx"):
            out, new_params, new = bound(run, self.axis_names)
        if extra := sorted(lacks(params, new_params)):
            raise ValueError(f"from_nnx: the call makes the param {extra[0]!r}; make it where the module is made")
        return out, new

    def written(self, params: Params, state: State, inputs: Any, named: Any) -> set[str]:
        """Paths of the state that an evaluation writes without having read them, such as that of a loss."""
        if not self.evaluation.other:
            return set()

        def run(state: State, *args: Any) -> tuple[Any, State]:
            params, inputs, named, key = args
            return self.call(params, state, inputs, named, False, key)

        asked = signature(inputs, named)
        if asked not in self.outputs:
            self.outputs[asked] = overwritten(run, state, params, inputs, named, jax.random.key(0))
        return self.outputs[asked]

    def made(self, params: Params, state: State, inputs: Any, named: Any) -> State:
        """Shapes of all variables after a training call or an evaluation."""

        def run(*args: Any) -> State:
            first, second = (self.call(*args, train, jax.random.key(0))[1] for train in (True, False))
            return united(first, second)

        return abstract(run, params, state, inputs, named)
