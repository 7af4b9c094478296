"""Outputs of an NNX module's submodules by path."""

from collections.abc import Callable
from typing import Any

from flax import nnx
from jax.extend.core import get_opaque_trace_state

from dlcore.interop._taps import numbered, recorded


def tapped_call(
    forward: Callable[..., Any], tap: Callable[[str, Any], Any], module: nnx.Module, *inputs: Any, **options: Any
) -> Any:
    """`forward(module, *inputs, **options)`, every submodule's output passed through `tap(path, output)` on its way.

    The module, which is this call's own, is changed. A submodule held at several places has the first one's path.
    Values inside a transformation of the module (scan, vmap, remat) must not leave it, and are passed by. What is sown
    as `nnx.Intermediate` is shown to the tap afterwards.
    """
    trace, calls = get_opaque_trace_state(convention="flax"), dict[str, int]()

    def passed(path: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def tapped(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
            out = call(self, *args, **kwargs)
            if get_opaque_trace_state(convention="flax") != trace:
                return out
            calls[path] = calls.get(path, -1) + 1
            return tap(numbered(path, calls[path]), out)

        return tapped

    for place, part in list(nnx.iter_modules(module)):
        kind = type(part)
        if place and callable(part):
            own = {"__call__": passed("/".join(map(str, place)), kind.__call__)}
            # Python looks a call up at the class, so that the part gets one of its own.
            object.__setattr__(part, "__class__", type(kind)(kind.__name__, (kind,), own))
    out = forward(module, *inputs, **options)
    for path, index, value in recorded(nnx.to_pure_dict(nnx.state(module, nnx.Intermediate))):
        tap(numbered(path, index), value)
    return out
