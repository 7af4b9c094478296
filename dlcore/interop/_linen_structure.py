"""What a Linen module takes: its params and state by path, found on shapes; and whether it can be switched."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.errors import ModifyScopeVariableError

from dlcore.interop._linen_call import Arguments, Call, plain, with_streams
from dlcore.interop._matching import abstract, overwritten
from dlcore.interop._modes import config_fields, mode_fields, no_switch
from dlcore.tree import named_leaves
from dlcore.types import Params, State

DROPOUT = "dropout"
"""Flax's name of the stream that is random in training only."""


class Structure(NamedTuple):
    """Shapes by path, and the collections that are outputs."""

    params: Params
    state: State
    sown: frozenset[str]
    """Those without which the module runs."""
    outputs: frozenset[str]
    """These, and those that a call writes without having read them."""


def structure(call: Call, train: bool, given: Arguments) -> Structure:
    """What the module takes on inputs of these shapes. Raises `ValueError` for one that ought to be switched."""
    found = shapes(call, train, given)
    others = [name for name in found if name not in ("params", "batch_stats")]
    sown = frozenset(name for name in others if does_without(call, name, found, train, given))
    outputs = sown | written(call, [name for name in others if name not in sown], found, train, given)
    if not call.switched:
        refuse(call, found, given, outputs)
    state = {name: tree for name, tree in found.items() if name != "params"}
    return Structure(found.get("params", {}), state, sown, outputs)


def shapes(call: Call, train: bool, given: Arguments) -> Any:
    """Shapes of all collections, without boxes."""
    key = jax.random.key(0)
    return abstract(lambda *arguments: call.start(key, train, Arguments(*arguments)), given.positional, given.named)


def does_without(call: Call, name: str, variables: Any, train: bool, given: Arguments) -> bool:
    """Whether the module runs without a collection that it may not change: it is an output."""
    rest = {other: tree for other, tree in variables.items() if other != name}

    def run(variables: Any, *arguments: Any) -> Any:
        return call.apply(variables, {"params": jax.random.key(0)}, train, Arguments(*arguments), list(rest))[0]

    try:
        abstract(run, rest, given.positional, given.named)
    except Exception:  # whatever stops it, it needs the collection
        return False
    return True


def written(call: Call, names: list[str], variables: Any, train: bool, given: Arguments) -> frozenset[str]:
    """Which of these collections a call writes without having read them, such as a variable that holds a loss."""
    old = {name: tree for name, tree in variables.items() if name in names and name != "cache"}
    rest = {name: tree for name, tree in variables.items() if name not in old}

    def run(old: Any, rest: Any, *arguments: Any) -> Any:
        def attempt(keys: Any) -> Any:
            return call.apply({**rest, **old}, keys, train, Arguments(*arguments), [*old, "batch_stats"])

        out, new = with_streams(attempt, jax.random.key(0), call.rngs)
        return out, plain(new)

    try:
        found = overwritten(run, old, rest, given.positional, given.named) if old else set()
    except Exception:  # the call itself will say why
        return frozenset()
    return frozenset(n for n, tree in old.items() if {f"{n}/{path}" for path, _ in named_leaves(tree)} <= found)


def latest(state: Any, new: Any) -> Any:
    """`new` with the last entries only of tuples that grew: what was sown beside variables that are kept."""
    if isinstance(new, Mapping) and isinstance(state, Mapping):
        return {name: latest(state.get(name), branch) for name, branch in new.items()}
    grew = isinstance(new, tuple) and isinstance(state, tuple) and len(new) > len(state)
    return new[-len(state) :] if grew else new


def refuse(call: Call, variables: Any, given: Arguments, outputs: Collection[str]) -> None:
    """Raise `ValueError` for a module that differs between training and evaluation, and cannot be switched.

    Noise of a stream other than dropout is allowed where no field says the mode: it is drawn in both, from the key.
    """
    module = call.modules(True)
    changes: dict[str, Any] = {name: not value for name, value in mode_fields(module).items()}
    for name, fields in config_fields(module).items():
        changes[name] = dataclasses.replace(getattr(module, name), **{f: not value for f, value in fields.items()})
    reason = needs_mode(call, variables, given, outputs, noise=not changes)
    if changes and reason is None:
        other = dataclasses.replace(call, modules=lambda train: module.clone(**changes))
        reason = needs_mode(other, shapes(other, True, given), given, outputs, noise=False)
    if reason:
        raise no_switch("from_linen", module, reason)


def needs_mode(call: Call, variables: Any, given: Arguments, outputs: Collection[str], *, noise: bool) -> str | None:
    """What differs between training and evaluation, if anything; `noise` of any stream may be in both."""
    if "batch_stats" in variables:
        return "has running statistics"
    rates: list[str] = []
    streams: set[str] = set()

    def look(proceed: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        rate = getattr(module, "rate" if isinstance(module, nn.Dropout) else "dropout_rate", 0)
        rates.extend([type(module).__name__] if isinstance(rate, float) and rate > 0 else [])
        return proceed(*args, **kwargs)

    def run(variables: Any, *arguments: Any) -> Any:
        def attempt(keys: Any) -> Any:
            streams.update(keys)
            return call.apply(variables, keys, True, Arguments(*arguments), list(outputs))[0]

        return with_streams(attempt, jax.random.key(0), [name for name in call.rngs if name != DROPOUT])

    try:
        with nn.intercept_methods(look):
            abstract(run, variables, given.positional, given.named)
    except ModifyScopeVariableError as error:
        return f"changes state whenever it runs ({brief(error)})"
    if rates or DROPOUT in streams:
        return f"has dropout ({', '.join(dict.fromkeys(rates)) or 'by its stream'})"
    return f"draws noise ({', '.join(streams)})" if streams and not noise else None


def brief(error: ModifyScopeVariableError) -> str:
    """What Flax says, without the address of its manual."""
    return str(error).partition(" (http")[0].rstrip(".")
