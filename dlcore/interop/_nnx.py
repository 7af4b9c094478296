"""NNX modules as `Model`s."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
from flax import nnx

from dlcore.interop._axes import advice, bound
from dlcore.interop._matching import abstract, check_leaves, check_names, fitted, lacks, precision, united, zeros
from dlcore.interop._modes import FLAGS, call_flags, config_fields, no_switch, places
from dlcore.interop._nnx_taps import tapped_call
from dlcore.interop._unset_key import unset, without_key
from dlcore.keys import fold_name
from dlcore.tree import named_leaves, path_of
from dlcore.types import Key, Model, Params, State

Make = Callable[[nnx.Rngs], nnx.Module]


def from_nnx(make: Make | tuple[Make, Make], *, flag: str | None = None, axis_names: Sequence[str] = ()) -> Model:
    """An NNX module given as a function of its random streams, e.g. `lambda rngs: Net(rngs=rngs)`.

    `nnx.Param` variables become params, others (`BatchStat`, ...) become state; both may also be given as `nnx.State`.

    Training or not is told by `module.train()` and `module.eval()`, and by arguments of the call and attributes of the
    modules that have a name in `FLAGS`, or the `flag` named ("!frozen" if it is False in
    training); or `make` is a pair (training, evaluation).

    Random streams are not kept: each call has those of `make(nnx.Rngs(key))`, and a call that takes `rngs` gets
    `nnx.Rngs(fold_name(key, "rngs"))`.

    `nnx.Cache` variables move in evaluation as well, see `dlcore.types.Model`; they begin as the module leaves them,
    for attention behind `init_cache`, and `init` is given what one call takes: one token, if any.

    A variable that the call makes (`self.kl = Loss(...)`, `self.sow`) is an output: if `init` is given inputs it is
    zero in the state, and the new state has its value. Without inputs there is no place for it, and it is dropped.
    `dlcore.nn.activations` gives the outputs of all submodules by path, and what is sown as `nnx.Intermediate`.

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
        Mode.of(unplaced(make), train, flag) for make, train in zip(makes, (True, False), strict=True)
    )
    if makes[0] is makes[1]:
        _refuse(training)
    model = Nnx(training, evaluation, tuple(axis_names))
    return Model(model.init, model, "nnx")


@dataclasses.dataclass(frozen=True, eq=False)
class Mode:
    """The module of one mode, as made from a key, and what it consists of."""

    make: Make
    train: bool
    flags: dict[str, bool]
    forward: Callable[..., Any]
    """The call of the module's class."""
    takes_rngs: bool
    graph: Any
    params: Params
    state: State
    streams: Callable[[Key], Any] | None
    """The random streams as made from a key, if there are any."""
    caches: frozenset[str]
    """Paths of `nnx.Cache` variables."""

    @staticmethod
    def of(make: Make, train: bool, flag: str | None) -> "Mode":
        """The parts of `make(rngs)`, which is traced only."""
        module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
        graph, params, random, state = split(module)
        call = type(module).__call__
        streams = jax.jit(lambda key: nnx.state(make(nnx.Rngs(key)), nnx.RngState)) if jax.tree.leaves(random) else None
        flags = call_flags(call, flag)(train)
        takes_rngs = "rngs" in inspect.signature(call).parameters
        caches = frozenset(path for path, _ in named_leaves(plain(nnx.state(module, nnx.Cache))))
        return Mode(make, train, flags, call, takes_rngs, graph, params, state, streams, caches)

    def module(self, params: Params, state: State, key: Key | None) -> nnx.Module:
        """The module with these values, told its mode; without a key its streams must not be drawn from."""
        random = [] if self.streams is None else [self.streams(jax.random.key(0) if key is None else key)]
        random = without_key(random) if key is None else random
        module = nnx.merge(self.graph, filled(self.params, params), *random, filled(self.state, state))
        set_mode(module, self.train)
        return module


@dataclasses.dataclass(frozen=True, eq=False)
class Nnx:
    """The `apply` of an NNX module."""

    training: Mode
    evaluation: Mode
    axis_names: tuple[str, ...]

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
        if not train and not self.evaluation.caches:
            return out, state
        kept = lambda path: train or path_of(path) in self.evaluation.caches  # noqa: E731
        moved = jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if kept(path) else None, new)
        return out, fitted(state, moved)

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
            run = module if tap is None else functools.partial(tapped_call, module, tap)
            out = run(*inputs, **options)
            _, new_params, _, new = split(module)
            return out, plain(new_params), plain(new)

        with advice("from_nnx"):
            out, new_params, new = bound(run, self.axis_names)
        if extra := sorted(lacks(params, new_params)):
            raise ValueError(f"from_nnx: the call makes the param {extra[0]!r}; make it where the module is made")
        return out, new

    def made(self, params: Params, state: State, inputs: Any, named: Any) -> State:
        """Shapes of all variables after a training call or an evaluation."""

        def run(*args: Any) -> State:
            first, second = (self.call(*args, train, jax.random.key(0))[1] for train in (True, False))
            return united(first, second)

        return abstract(run, params, state, inputs, named)


def unplaced(make: Make) -> Make:
    """`make`, whose sharding hints are not carried out as it runs: that needs a mesh, and dlcore places the state."""

    def made(rngs: nnx.Rngs) -> nnx.Module:
        with nnx.use_eager_sharding(False):
            return make(rngs)

    return made


def split(module: nnx.Module) -> tuple[Any, Any, Any, Any]:
    """Graph, params, random streams, and all other variables."""
    return nnx.split(module, nnx.Param, nnx.RngState, ...)


def plain(tree: Any) -> dict[Any, Any]:
    """Nested dicts of arrays, from those, from an `nnx.State`, or from dicts of variables."""
    variable = lambda x: isinstance(x, nnx.Variable)  # noqa: E731
    tree = nnx.to_pure_dict(tree) if isinstance(tree, nnx.State) else tree
    return jax.tree.map(lambda x: x.get_value() if variable(x) else x, tree, is_leaf=variable)


def filled(like: Any, values: Any) -> Any:
    """The `nnx.State` of shapes with these values; what it has no place for is left out."""

    def at(path: tuple[Any, ...]) -> Any:
        return functools.reduce(lambda tree, name: tree[name], path, values)

    flat = nnx.to_flat_state(like)
    return nnx.from_flat_state([(p, x.replace(at(p)) if isinstance(x, nnx.Variable) else at(p)) for p, x in flat])


def set_mode(module: nnx.Module, train: bool) -> None:
    """As `module.train()` or `module.eval()`, and all other attributes that have a name in `FLAGS`."""
    (nnx.Module.train if train else nnx.Module.eval)(module)
    for _, part in nnx.iter_modules(module):
        for name, sense in FLAGS.items():
            if isinstance(vars(part).get(name), bool):
                setattr(part, name, train is sense)


def _refuse(mode: Mode) -> None:
    """Raise `ValueError` for a module with dropout or statistics whose mode is fixed by a configuration."""
    module = nnx.eval_shape(lambda: mode.make(nnx.Rngs(0)))
    changing = mode.streams is not None or jax.tree.leaves(nnx.state(module, nnx.BatchStat))
    for _, part in nnx.iter_modules(module):
        if changing and not mode.flags and (found := config_fields(part)):
            raise no_switch("from_nnx", part, f"has dropout or running statistics, and a mode in {', '.join(found)}")
