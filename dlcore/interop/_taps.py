"""Outputs of a Linen module's submodules by path."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
from jax.extend.core import get_opaque_trace_state


class Tapping:
    """Passes the outputs of a Linen module's submodules through `tap(path, output)` while the module runs."""

    def __init__(self, tap: Callable[[str, Any], Any]):
        self.tap = tap

    def run(self, module: Callable[..., tuple[Any, Any]]) -> tuple[Any, dict[str, Any]]:
        """`module()`, whose result is (outputs, collections), tapped; collections without `intermediates`.

        Values inside a transformation of the module (scan, remat) must not leave it: what Flax records of them is
        shown to the tap afterwards, like what is sown.
        """
        trace, seen = get_opaque_trace_state(convention="flax"), dict[str, int]()

        def intercept(proceed: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            inside = get_opaque_trace_state(convention="flax") != trace
            out = proceed(*args, **kwargs)
            path = "/".join(context.module.path)
            if not path or context.method_name != "__call__" or inside:
                return out
            index = seen.get(path, 0)
            seen[path] = index + 1
            return self.tap(numbered(path, index), out)

        with nn.intercept_methods(intercept):
            out, new = module(capture_intermediates=True)
        rest = {name: tree for name, tree in new.items() if name != "intermediates"}
        for path, index, value in recorded(new.get("intermediates", {})):
            if path and path not in seen:
                self.tap(numbered(path, index), value)
        return out, rest


def recorded(intermediates: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, int, Any]]:
    """What Flax recorded: path, index of the call, value. The output of a module has the module's path."""
    for name, entry in intermediates.items():
        below = f"{path}/{name}" if path else str(name)
        if isinstance(entry, Mapping):
            yield from recorded(entry, below)
        else:
            values = entry if isinstance(entry, tuple) else (entry,)
            yield from ((path if name == "__call__" else below, i, value) for i, value in enumerate(values))


def numbered(path: str, index: int) -> str:
    """The path of a call: the second one of the part `mix` is `mix:1`."""
    return f"{path}:{index}" if index else path
