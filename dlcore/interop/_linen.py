"""Linen modules as `Model`s."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
from flax.errors import ModifyScopeVariableError

from dlcore.interop._linen_call import Arguments, Call, Keys, Method, plain, with_streams
from dlcore.interop._linen_structure import DROPOUT, Structure, brief, latest, structure
from dlcore.interop._matching import check_leaves, check_names, lacks, precision, signature, united
from dlcore.interop._modes import by_mode, several
from dlcore.interop._taps import Tapping
from dlcore.tree import fitted
from dlcore.types import Key, Model, Params, State

Modules = nn.Module | tuple[nn.Module, nn.Module] | Callable[[bool], nn.Module]


def from_linen(
    module: Modules,
    *,
    flag: str | None = None,
    method: Method = None,
    rngs: str | Sequence[str] = (DROPOUT,),
    axis_names: str | Sequence[str] = (),
    remembered: str | Sequence[str] = ("cache",),
) -> Model:
    """A Linen module: collection `params` becomes params, all others (`batch_stats`, ...) become state.

    Inputs may be anything that the module takes: dicts, tuples, None, numbers, also by keyword; positional ones without
    a place fill keyword-only arguments in order. `init` starts from the values of arrays, and from zeros where shapes
    are given. Boxes (`nn.with_partitioning`) are taken off; `sharding_rules` keeps what they say.

    Training or not is told by the arguments of the call that have a name in `FLAGS`, or by the
    `flag` named ("!frozen" if it is False in training); or `module` is a pair (training, evaluation), or a function
    train -> module.

    Every random stream that the module asks for gets `fold_name(key, stream)`; add to `rngs` those that it uses only
    `if self.has_rng(...)`.

    A collection without which the module runs (from `self.sow`), or that a call writes without having read it (from
    `self.variable(...).value = loss`), holds outputs: the state that comes out of a call, in evaluation as well, has
    their values in the structure that `init` gave. `dlcore.nn.activations` gives the outputs of all submodules by path,
    and what is sown as `intermediates`.

    Collections in `remembered` move in evaluation as well, see `dlcore.types.Model`: Linen's attention with
    `decode=True` has a `cache`.

    `method` is another method than `__call__`. As in Flax, one call may name another, `apply(..., method="encode")`,
    and have a key for each stream: `rngs={"dropout": key}` instead of `key=`, `{"params": key, ...}` as that of `init`.

    `axis_names` are those of `BatchNorm(axis_name=...)`; statistics are those of the global batch in any case. Raises
    `ValueError` for params or state whose paths, shapes or dtypes are not the module's (all floating params and inputs
    may have another floating dtype); for a module with dropout or statistics that nothing tells whether it trains; and
    without a key when it asks for randomness.
    """
    call = linen_call(module, flag=flag, method=method, rngs=rngs, axis_names=axis_names)
    linen = Linen(call, several(remembered))
    return Model(linen.init, linen, "linen")


def linen_call(
    module: Modules,
    *,
    flag: str | None = None,
    method: Method = None,
    rngs: str | Sequence[str] = (DROPOUT,),
    axis_names: str | Sequence[str] = (),
) -> Call:
    """The init and apply of a Linen module with its mode as an argument, see `from_linen`."""
    modules, differ = by_mode(module, nn.Module, "from_linen")
    call = Call(modules, differ, method, flag, several(rngs), several(axis_names))
    call.flags(True)  # refuses a flag that the method does not take
    return call


@dataclasses.dataclass(frozen=True, eq=False)
class Linen:
    """The `apply` of a Linen module."""

    call: Call
    remembered: tuple[str, ...] = ()
    structures: dict[Any, Structure] = dataclasses.field(default_factory=dict)
    """What `structure` found, by its arguments."""

    methods: dict[Method, "Linen"] = dataclasses.field(default_factory=dict)
    """The `apply` of other methods that were called."""

    def init(self, key: Keys, *inputs: Any, method: Method = None, **named: Any) -> tuple[Params, State]:
        """Params and state: those of a training call where it has more of them than an evaluation."""
        if method is not None:
            return self.through(method).init(key, *inputs, **named)
        given = self.call.bind(inputs, named)
        evaluation, training = (self.structure(train, given) for train in (False, True))
        more = lacks(evaluation[:2], training[:2]) and not lacks(training[:2], evaluation[:2])
        variables = self.call.start(key, bool(more), given)
        return variables.pop("params", {}), variables

    taps: ClassVar[bool] = True
    """Whether `apply` takes `tap=`, see `dlcore.nn.tapped`."""

    def __call__(
        self,
        params: Params,
        state: State,
        *inputs: Any,
        train: bool = False,
        key: Key | None = None,
        rngs: Keys | None = None,
        method: Method = None,
        tap: Callable[[str, Any], Any] | None = None,
        **named: Any,
    ) -> tuple[Any, State]:
        """The module's outputs and state, the output of every submodule passed through `tap(path, output)` on its way.

        What runs inside Flax's own scan, and sown intermediates, the tap sees as Flax records it, and cannot change.
        """
        if method is not None:
            options = {"train": train, "key": key, "rngs": rngs, "tap": tap, **named}
            return self.through(method)(params, state, *inputs, **options)
        streams = {"params": rngs} if isinstance(rngs, jax.Array) else rngs
        given = self.call.bind(inputs, named)
        state = {} if state is None else state
        values, collections = plain(params), plain(state)
        found = self.checked(values, collections, train, given)
        kept = {name: tree for name, tree in collections.items() if name not in found.sown}
        moving = {*self.remembered, *found.outputs}
        mutable = [name for name in state if name in found.state and (train or name in moving)]
        tapping = None if tap is None else Tapping(tap)

        def attempt(keys: Any) -> tuple[Any, Any]:
            return self.call.apply({"params": values, **kept}, keys, train, given, mutable, tapping)

        try:
            out, new = with_streams(attempt, key if streams is None else streams, self.call.rngs)
        except ModifyScopeVariableError as error:
            raise ValueError(
                f"from_linen: the module changes state in evaluation ({brief(error)}); let it do so in training only, "
                f"and pass train=True there, or name a collection that moves in both: remembered=('NAME',)"
            ) from error
        return out, fitted(state, latest(collections, plain(new))) if mutable or train else state

    def through(self, method: Method) -> "Linen":
        """The `apply` of another method."""
        if method not in self.methods:
            self.methods[method] = Linen(self.call.through(method), self.remembered)
        return self.methods[method]

    def structure(self, train: bool, given: Arguments) -> Structure:
        """What the module takes on inputs of these shapes, found once."""
        train = train and self.call.switched
        asked = (train, signature(given.positional, given.named))
        if asked not in self.structures:
            self.structures[asked] = structure(self.call, train, given)
        return self.structures[asked]

    def checked(self, params: Params, state: State, train: bool, given: Arguments) -> Structure:
        """What the module takes; `ValueError` where params and state do not match it."""
        found = self.structure(train, given)
        expected = {name: tree for name, tree in found.state.items() if name not in found.sown}
        own = {name: tree for name, tree in state.items() if name in expected}
        known, known_state = found.params, expected
        if lacks(known, params) or lacks(known_state, own):
            # A branch of the other mode, such as an auxiliary head.
            other = self.structure(not train, given)
            known, known_state = united(known, other.params), united(known_state, other.state)
        whole = self.call.method is None
        check_names("params", params, missing=found.params, known=known if whole else None)
        check_names("state", own, missing=expected, known=known_state if whole else None)
        dtype = precision(params, given.positional, given.named)
        check_leaves("params", params, found.params, dtype)
        # A cache is as long as the inputs that it was started with.
        check_leaves("state", {name: tree for name, tree in own.items() if name != "cache"}, expected, dtype)
        return found
