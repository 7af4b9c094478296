"""One call of a Linen module: its mode, its random streams and its collections."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import unfreeze
from flax.errors import InvalidRngError

from dlcore.interop._axes import advice, bound
from dlcore.interop._matching import is_array
from dlcore.interop._modes import call_flags, places
from dlcore.interop._taps import Tapping
from dlcore.keys import fold_name
from dlcore.types import Key

Method = str | Callable[..., Any] | None
"""The name of a method, or a function of the module; None for `__call__`."""

Keys = Key | Mapping[str, Key]
"""A key, or one for each random stream."""

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
    differ: bool
    """Whether the modules of both modes differ."""
    method: Method
    flag: str | None
    rngs: tuple[str, ...]
    axis_names: tuple[str, ...]

    @functools.cached_property
    def flags(self) -> Callable[[bool], dict[str, bool]]:
        """The arguments of the method that tell it its mode."""
        return call_flags(method_of(self.modules(True), self.method), self.flag)

    @functools.cached_property
    def switched(self) -> bool:
        """Whether the mode makes a difference."""
        return self.differ or bool(self.flags(True))

    def through(self, method: Method) -> "Call":
        """The call of another method, which need not take the flag that was named."""
        taken = inspect.signature(method_of(self.modules(True), method)).parameters
        flag = self.flag if self.flag is not None and self.flag.removeprefix("!") in taken else None
        return dataclasses.replace(self, method=method, flag=flag)

    @functools.cached_property
    def parameters(self) -> list[inspect.Parameter]:
        """Parameters of the method that are inputs: neither self nor the mode."""
        found = list(inspect.signature(method_of(self.modules(True), self.method)).parameters.values())[1:]
        return [parameter for parameter in found if parameter.name not in self.flags(True)]

    def bind(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Arguments:
        """Arguments of the module, see `places`."""
        if any(p.kind is p.VAR_POSITIONAL for p in self.parameters):
            return Arguments(inputs, named)
        call = method_of(self.modules(True), self.method)
        return Arguments(*places("from_linen", call, self.flags(True), inputs, named))

    def start(self, key: Keys, train: bool, given: Arguments) -> dict[str, Any]:
        """All collections as the module starts them, without boxes."""
        return plain(self.boxed(key, train, given))

    def boxed(self, key: Keys, train: bool, given: Arguments) -> Any:
        """All collections as the module starts them."""
        keys = key if isinstance(key, Mapping) else {"params": key, **_streams(key, self.rngs)}
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


def method_of(module: nn.Module, method: Method) -> Callable[..., Any]:
    """The function that is called with the module as its first argument."""
    return method if callable(method) else getattr(type(module), method or "__call__")


def with_streams(run: Callable[[Mapping[str, Key]], Any], key: Keys | None, names: Sequence[str]) -> Any:
    """`run(keys)` with a key for each of the random streams `names`, and for every other that it asks for.

    Keys that are given for each stream are those that it gets.
    """
    wanted, given = list(names), key if isinstance(key, Mapping) else {} if key is None else None
    while True:
        try:
            return run(_streams(key, wanted) if given is None else given)
        except InvalidRngError as error:
            name = asked_stream(error)
            if given is not None or name is None or name in wanted:
                raise ValueError(f"this Linen module needs a key ({error}); pass key=... to apply") from error
            wanted.append(name)


def _streams(key: Key, names: Sequence[str]) -> dict[str, Key]:
    return {name: fold_name(key, name) for name in names}


def asked_stream(error: InvalidRngError) -> str | None:
    """The stream that a module had no key for."""
    found = re.search(r'PRNG for "([^"]+)"', str(error))
    return found and found[1]


def plain(tree: Any) -> dict[str, Any]:
    """Nested dicts of arrays: without boxes, not frozen, and numbers as arrays."""
    arrays = lambda x: x if is_array(x) else jnp.asarray(x)  # noqa: E731
    return jax.tree.map(arrays, unfreeze(nn.unbox(dict(tree or {}))))
