"""One call of a Linen module: its mode, its random streams and its collections."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
from flax.core import unfreeze
from flax.errors import InvalidRngError

from dlcore.interop._axes import advice, bound
from dlcore.interop._modes import places
from dlcore.interop._taps import Tapping
from dlcore.keys import fold_name
from dlcore.types import Key

PASSING = ("intermediates", "perturbations")
"""Collections that are looked at, and never kept."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What the module's call is given, without the mode."""

    positional: tuple[Any, ...]
    named: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """A Linen module's init and apply, with the mode as an argument."""

    modules: Callable[[bool], nn.Module]
    method: str | Callable[..., Any] | None
    flags: Callable[[bool], dict[str, bool]]
    switched: bool
    """Whether the mode makes a difference."""
    rngs: tuple[str, ...]
    axis_names: tuple[str, ...]

    @functools.cached_property
    def parameters(self) -> list[inspect.Parameter]:
        """Parameters of the method that are inputs: neither self nor the mode."""
        found = list(inspect.signature(method_of(self.modules(True), self.method)).parameters.values())[1:]
        return [parameter for parameter in found if parameter.name not in self.flags(True)]

    def bind(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Arguments:
        """Arguments of the module: positional ones that have no place there fill keyword-only ones in order."""
        if any(p.kind is p.VAR_POSITIONAL for p in self.parameters):
            return Arguments(inputs, named)
        open_to = [p for p in self.parameters if p.name not in named]
        room = len([p for p in open_to if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)])
        only = [p.name for p in open_to if p.kind is p.KEYWORD_ONLY]
        more = dict(zip(only, inputs[room:], strict=False))
        call, positional = method_of(self.modules(True), self.method), inputs[: len(inputs) - len(more)]
        return Arguments(*places("from_linen", call, self.flags(True), positional, {**more, **named}))

    def start(self, key: Key, train: bool, given: Arguments) -> dict[str, Any]:
        """All collections as the module starts them, without boxes."""
        return plain(self.boxed(key, train, given))

    def boxed(self, key: Key, train: bool, given: Arguments) -> Any:
        """All collections as the module starts them."""
        keys = {"params": key, **{name: fold_name(key, name) for name in self.rngs}}
        options = {**given.named, **self.flags(train), "method": self.method, "mutable": nn.DenyList(PASSING)}
        with advice("from_linen"):
            return bound(lambda: self.modules(train).lazy_init(keys, *given.positional, **options), self.axis_names)

    def apply(
        self,
        variables: Any,
        keys: Mapping[str, Key],
        train: bool,
        given: Arguments,
        mutable: Sequence[str],
        tapping: Tapping | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """The module's own apply: outputs, and the collections that are mutable."""
        options = {**given.named, **self.flags(train), "method": self.method, "rngs": keys}
        kept = [*mutable, "intermediates"] if tapping else list(mutable)

        def run(**more: Any) -> tuple[Any, Any]:
            return self.modules(train).apply(variables, *given.positional, mutable=kept, **options, **more)

        with advice("from_linen"):
            return bound(run if tapping is None else lambda: tapping.run(run), self.axis_names)


def method_of(module: nn.Module, method: str | Callable[..., Any] | None) -> Callable[..., Any]:
    """The function that is called with the module as its first argument."""
    return method if callable(method) else getattr(type(module), method or "__call__")


def with_streams(run: Callable[[Mapping[str, Key]], Any], key: Key | None, names: Sequence[str]) -> Any:
    """`run(keys)` with a key for each of the random streams `names`, and for every other that it asks for."""
    wanted = list(names)
    while True:
        try:
            return run({} if key is None else {name: fold_name(key, name) for name in wanted})
        except InvalidRngError as error:
            name = asked_stream(error)
            if key is None or name is None or name in wanted:
                raise ValueError(f"this Linen module needs a key ({error}); pass key=... to apply") from error
            wanted.append(name)


def asked_stream(error: InvalidRngError) -> str | None:
    """The stream that a module had no key for."""
    found = re.search(r'PRNG for "([^"]+)"', str(error))
    return found and found[1]


def plain(tree: Any) -> dict[str, Any]:
    """Nested dicts of arrays: without boxes, and not frozen."""
    return unfreeze(nn.unbox(dict(tree)))
