"""Composed models: named parts and a plain forward function (lecture 8.2).

The plumbing of params, state and keys is written here, once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.keys import fold_name
from dlcore.nn._count import depends
from dlcore.tree import STACKED
from dlcore.types import Bijector, Key, Model, Params, State

Call = Callable[..., Any]
"""`call(name, *inputs)` runs the part of that name."""

Around = Callable[[str, Model], Callable[..., tuple[Any, State]]]
"""The `apply` that takes the place of a part's own, given what the call is named and the part."""


def numbered(parts: Sequence[Model | Bijector]) -> dict[str, Any]:
    """The parts by name, which is their kind and a number that counts those of the same kind: `dense_0`, `dense_1`."""
    named: dict[str, Any] = {}
    for part in parts:
        named[f"{part.kind}_{sum(other.kind == part.kind for other in named.values())}"] = part
    return named


def _branch(tree: Mapping[str, Any], name: str) -> Any:
    return tree.get(name, {})


def _without_empty(branches: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tree for name, tree in branches.items() if jax.tree.leaves(tree)}


@dataclass(frozen=True, eq=False)
class Graph:
    """The `apply` of a composed model, callable like any other and open to those who look inside.

    `forward(call, *inputs)` is the computation, `parts` the named models that `call(name, ...)`
    runs. `take` finds a part's branch in a params or state tree; `pack` joins branches into one tree.
    """

    forward: Callable[..., Any]
    parts: Mapping[str, Model]
    take: Callable[[Any, str], Any] = _branch
    pack: Callable[[Mapping[str, Any]], Any] = _without_empty

    def __call__(
        self, params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
    ) -> tuple[Any, State]:
        return self.run(params, state, *inputs, train=train, key=key)

    def run(
        self,
        params: Params,
        state: State,
        *inputs: Any,
        train: bool = False,
        key: Key | None = None,
        around: Around = lambda name, part: part.apply,
    ) -> tuple[Any, State]:
        """Like a call, with `around(name, part)` in the place of `part.apply`; a second call is named `name:1`."""
        calls: dict[str, int] = {}
        states: dict[str, Any] = {name: self.take(state, name) for name in self.parts}
        moved: list[bool] = []

        def call(name: str, *inputs: Any) -> Any:
            part, index = _lookup(self.parts, name), calls.get(name, 0)
            calls[name] = index + 1
            part_key = None if key is None else fold_name(key, name, index)
            apply = around(f"{name}:{index}" if index else name, part)
            out, new = apply(self.take(params, name), states[name], *inputs, train=train, key=part_key)
            moved.append(train or new is not states[name])
            states[name] = new
            return out

        out = self.forward(call, *inputs)
        return out, self.pack(states) if any(moved) else state

    def init(self, key: Key, *inputs: Any) -> tuple[Params, State]:
        """Every part by the shapes that it gets in one run of `forward`, which is traced only: no layer is computed.

        Unless a part starts from the values of its inputs: then the run is computed, as far as those need it.
        """
        if isinstance(key, jax.core.Tracer):
            return self._packed(self._started(key, inputs, {})[0])
        seen: dict[str, Any] = {}
        leaves, form = jax.tree.flatten(inputs)
        arrays = {i: x for i, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray)}

        def start(arrays: dict[int, Any], key: Key) -> dict[str, tuple[Params, State]]:
            return self._started(key, form.unflatten([arrays.get(i, x) for i, x in enumerate(leaves)]), seen)[0]

        if depends(jax.make_jaxpr(start)(arrays, key), len(jax.tree.leaves(arrays))):
            return self._packed(jax.jit(start)(arrays, key))
        return self._packed({n: self.parts[n].init(fold_name(key, n), *shapes) for n, shapes in seen.items()})

    def _packed(self, made: dict[str, tuple[Params, State]]) -> tuple[Params, State]:
        return tuple(self.pack({name: trees[i] for name, trees in made.items()}) for i in (0, 1))

    def _started(self, key: Key, inputs: Any, seen: dict[str, Any]) -> tuple[dict[str, tuple[Params, State]], Any]:
        """Params and state of every part, and what comes out of all; `seen` gets the shapes of a part's inputs."""
        made: dict[str, tuple[Params, State]] = {}

        def call(name: str, *inputs: Any) -> Any:
            part = _lookup(self.parts, name)
            if name in made:
                return part.apply(*made[name], *inputs)[0]
            seen[name], part_key = jax.tree.map(_abstract, inputs), fold_name(key, name)
            graph = part.apply
            if type(graph) is Graph and part.init == graph.init:
                # One run starts it and gives its output; else what lies k graphs deep would run k times.
                inner, out = graph._started(part_key, inputs, {})
                made[name] = graph._packed(inner)
                return out
            made[name] = part.init(part_key, *inputs)
            return graph(*made[name], *inputs)[0]

        out = self.forward(call, *jax.tree.map(_concrete, inputs))
        return made, out


def _lookup(parts: Mapping[str, Model], name: str) -> Model:
    if name not in parts:
        raise ValueError(f"forward called part {name!r}, but the parts are {sorted(parts)}; pass {name}=... to compose")
    return parts[name]


def _concrete(x: Any) -> Any:
    return jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x


def _abstract(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, jax.Array | np.ndarray) else x


def compose(forward: Callable[..., Any], /, **parts: Model) -> Model:
    """A network from named parts and a plain function `forward(call, *inputs)`.

    `call(name, *inputs)` runs a part. Calling a part twice shares its weights (one leaf, one
    gradient) and passes its state on; each call has a key of its own. Raises `ValueError` when
    `forward` names a part that was not given, and for a part called `stacked`: that name marks copies. Its kind is
    "block"; a factory gives its own with `compose(...)._replace(kind="inverted_residual")`.
    """
    if STACKED in parts:
        raise ValueError(f"a part must not be called {STACKED!r}: the leaves below it are taken for stacked copies")
    graph = Graph(forward, parts)
    return Model(graph.init, graph, "block")
