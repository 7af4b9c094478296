"""One mode of an NNX module: what it consists of, and whether it can be told apart from the other."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from dlcore.interop._matching import lacks
from dlcore.interop._modes import FLAGS, call_flags, config_fields, no_switch
from dlcore.interop._unset_key import FIXED, without_keys
from dlcore.nn import sources
from dlcore.tree import fitted, named_leaves
from dlcore.types import Key, Params, State

Make = Callable[[nnx.Rngs], nnx.Module]


@dataclasses.dataclass(frozen=True, eq=False)
class Mode:
    """The module of one mode, as made from a key, and what it consists of."""

    make: Make
    train: bool
    flags: dict[str, bool]
    forward: Callable[..., Any]
    """The method of the module's class that is called."""
    takes_rngs: bool
    graph: Any
    params: Params
    state: State
    streams: Callable[[Key], Any] | None
    """The random streams as made from a key, if there are any."""
    fixed: frozenset[str]
    """Paths of streams that are the same for every key: those must not be drawn from."""
    stays: frozenset[str]
    """Paths of the state that only training changes: not of caches, nor of what a call makes."""
    other: frozenset[str]
    """Those of them that are no running statistics: a call may write them without having read them."""

    @staticmethod
    def of(make: Make, train: bool, flag: str | None, method: str) -> "Mode":
        """The parts of `make(rngs)`, which is traced only."""
        module = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
        graph, params, random, state = split(module)
        call = getattr(type(module), method)
        made = lambda key: nnx.state(make(nnx.Rngs(key)), nnx.RngState)  # noqa: E731
        streams = jax.jit(made) if jax.tree.leaves(random) else None
        fed = [] if streams is None else sources(jax.make_jaxpr(made)(jax.random.key(0)), 1)
        fixed = frozenset(path for (path, _), key in zip(named_leaves(random), fed, strict=True) if not key)
        flags = call_flags(call, flag)(train)
        takes_rngs = "rngs" in inspect.signature(call).parameters
        stays = lacks(plain(nnx.state(module, nnx.Cache)), plain(state))
        other = stays & lacks(plain(nnx.state(module, nnx.BatchStat)), plain(state))
        parts = (graph, params, state, streams, fixed, frozenset(stays), frozenset(other))
        return Mode(make, train, flags, call, takes_rngs, *parts)

    def module(self, params: Params, state: State, key: Key | None) -> nnx.Module:
        """The module with these values, told its mode; without a key its streams must not be drawn from."""
        random = [] if self.streams is None else [self._random(key)]
        module = nnx.merge(self.graph, fitted(self.params, params), *random, fitted(self.state, state))
        set_mode(module, self.train)
        return module

    def _random(self, key: Key | None) -> Any:
        random = self.streams(jax.random.key(0) if key is None else key)
        all_paths = {path for path, _ in named_leaves(random)}
        random = without_keys(random, self.fixed, FIXED)
        return without_keys(random, all_paths - self.fixed) if key is None else random


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


def set_mode(module: nnx.Module, train: bool) -> None:
    """As `module.train()` or `module.eval()`, and all other attributes that have a name in `FLAGS`."""
    (nnx.Module.train if train else nnx.Module.eval)(module)
    for _, part in nnx.iter_modules(module):
        for name, sense in FLAGS.items():
            if isinstance(vars(part).get(name), bool):
                setattr(part, name, train is sense)


def refuse(mode: Mode) -> None:
    """Raise `ValueError` for a module with dropout or statistics whose mode is fixed by a configuration."""
    module = nnx.eval_shape(lambda: mode.make(nnx.Rngs(0)))
    changing = mode.streams is not None or jax.tree.leaves(nnx.state(module, nnx.BatchStat))
    for _, part in nnx.iter_modules(module):
        if changing and not mode.flags and (found := config_fields(part)):
            raise no_switch("from_nnx", part, f"has dropout or running statistics, and a mode in {', '.join(found)}")
