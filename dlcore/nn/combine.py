"""Combinators: bigger models from smaller ones (lecture 8.2).

`compose` is the general one: named parts and a plain forward function. `serial`, `residual`,
`concat` and `scan` follow from it. The plumbing of params, state and keys is written here, once.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dlcore.nn.count import depends
from dlcore.nn.dtypes import promoted
from dlcore.tree import STACKED, stacked, unstacked
from dlcore.types import Key, Model, Params, State

Call = Callable[..., Any]
Tap = Callable[[str, Any], Any]


def fold_name(key: Key, name: str, index: int = 0) -> Key:
    """Key of the `index`-th call of the part `name`: adding a part leaves the keys of the others alone."""
    key = jax.random.fold_in(key, zlib.crc32(name.encode()))
    return jax.random.fold_in(key, index) if index else key


def _branch(tree: Mapping[str, Any], name: str) -> Any:
    return tree.get(name, {})


def _without_empty(branches: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tree for name, tree in branches.items() if jax.tree.leaves(tree)}


@dataclass(frozen=True, eq=False)
class Graph:
    """The `apply` of a composed model, callable like any other and open to walkers.

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
        tap: Tap | None = None,
    ) -> tuple[Any, State]:
        """Like a call, with every output of every part passed through `tap(path, output)` on its way."""
        calls: dict[str, int] = {}
        states: dict[str, Any] = {name: self.take(state, name) for name in self.parts}
        moved: list[bool] = []

        def call(name: str, *inputs: Any) -> Any:
            part, index = _lookup(self.parts, name), calls.get(name, 0)
            calls[name] = index + 1
            part_key = None if key is None else fold_name(key, name, index)
            path = f"{name}:{index}" if index else name
            args = (self.take(params, name), states[name], *inputs)
            if tap is not None and hasattr(part.apply, "run"):
                out, new = part.apply.run(*args, train=train, key=part_key, tap=_below(path, tap))
            else:
                out, new = part.apply(*args, train=train, key=part_key)
            moved.append(train or new is not states[name])
            states[name] = new
            return out if tap is None or not path else tap(path, out)

        out = self.forward(call, *inputs)
        return out, self.pack(states) if any(moved) else state

    def init(self, key: Key, *inputs: Any) -> tuple[Params, State]:
        """Every part by the shapes that it gets in one run of `forward`, which is traced only: no layer is computed.

        Unless a part starts from the values of its inputs: then the run is computed, as far as those need it.
        """
        if isinstance(key, jax.core.Tracer):
            return self._packed(self._started(key, inputs, {}))
        seen: dict[str, Any] = {}
        leaves, form = jax.tree.flatten(inputs)
        arrays = {i: x for i, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray)}

        def start(arrays: dict[int, Any], key: Key) -> dict[str, tuple[Params, State]]:
            return self._started(key, form.unflatten([arrays.get(i, x) for i, x in enumerate(leaves)]), seen)

        if depends(jax.make_jaxpr(start)(arrays, key), len(jax.tree.leaves(arrays))):
            return self._packed(jax.jit(start)(arrays, key))
        return self._packed({n: self.parts[n].init(fold_name(key, n), *shapes) for n, shapes in seen.items()})

    def _packed(self, made: dict[str, tuple[Params, State]]) -> tuple[Params, State]:
        return tuple(self.pack({name: trees[i] for name, trees in made.items()}) for i in (0, 1))

    def _started(self, key: Key, inputs: Any, seen: dict[str, Any]) -> dict[str, tuple[Params, State]]:
        """Params and state of every part; `seen` gets the shapes of its inputs."""
        made: dict[str, tuple[Params, State]] = {}

        def call(name: str, *inputs: Any) -> Any:
            part = _lookup(self.parts, name)
            if name not in made:
                seen[name] = jax.tree.map(_abstract, inputs)
                made[name] = part.init(fold_name(key, name), *inputs)
            return part.apply(*made[name], *inputs)[0]

        self.forward(call, *jax.tree.map(_concrete, inputs))
        return made


def _lookup(parts: Mapping[str, Model], name: str) -> Model:
    if name not in parts:
        raise ValueError(f"forward called part {name!r}, but the parts are {sorted(parts)}; pass {name}=... to compose")
    return parts[name]


def _below(path: str, tap: Tap) -> Tap:
    return lambda inner, h: tap(f"{path}/{inner}" if path else inner, h)


def _concrete(x: Any) -> Any:
    return jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x


def _abstract(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, jax.Array | np.ndarray) else x


def compose(forward: Callable[..., Any], /, **parts: Model) -> Model:
    """A network from named parts and a plain function `forward(call, *inputs)`.

    `call(name, *inputs)` runs a part. Calling a part twice shares its weights (one leaf, one
    gradient) and passes its state on; each call has a key of its own. Raises `ValueError` when
    `forward` names a part that was not given, and for a part called `stacked`: that name marks copies.
    """
    if STACKED in parts:
        raise ValueError(f"a part must not be called {STACKED!r}: the leaves below it are taken for stacked copies")
    graph = Graph(forward, parts)
    return Model(graph.init, graph)


def serial(*models: Model, **named: Model) -> Model:
    """Feed each model the output of the one before: f_n ∘ … ∘ f_1.

    Positional models get readable names from the factory that made them (`dense_0`, `relu_0`,
    `dense_1`); keyword models, which follow, keep theirs. A model's first input may be several arrays.
    """
    parts = {**_numbered(models), **named}

    def forward(call: Call, *inputs: Any) -> Any:
        for name in parts:
            inputs = (call(name, *inputs),)
        return inputs[0]

    return compose(forward, **parts)


def kind(model: Model) -> str:
    """The factory's name in lower case: `dense` for a model made by `Dense`."""
    if isinstance(model.apply, Graph):
        return getattr(model.apply.forward, "__qualname__", "block").split(".")[0].lstrip("_").lower()
    return getattr(model.apply, "__qualname__", "layer").split(".")[0].lstrip("_").lower()


def _numbered(models: tuple[Model, ...]) -> dict[str, Model]:
    parts: dict[str, Model] = {}
    for model in models:
        name = kind(model)
        parts[f"{name}_{sum(other.rsplit('_', 1)[0] == name for other in parts)}"] = model
    return parts


def identity() -> Model:
    """The model that returns its input."""

    def apply(
        params: Params, state: State, x: Any, *, train: bool = False, key: Key | None = None
    ) -> tuple[Any, State]:
        return x, state

    return Model(lambda key, x: ({}, {}), apply)


def residual(body: Model, shortcut: Model | None = None) -> Model:
    """x ↦ shortcut(x) + body(x), the shortcut being the identity unless given (He et al. 2015, eq. 1–2)."""

    def forward(call: Call, x: Array) -> Array:
        side = x if shortcut is None else call("shortcut", x)
        out = call("body", x)
        if side.shape != out.shape:
            raise ValueError(
                f"residual: body gives shape {out.shape}, shortcut {side.shape}; pass a shortcut= that matches"
            )
        return side + out

    return compose(forward, body=body, **({} if shortcut is None else {"shortcut": shortcut}))


def concat(*branches: Model, axis: int = -1, **named: Model) -> Model:
    """Run every branch on the same inputs and join the outputs along `axis`, in the order given."""
    parts = {**_numbered(branches), **named}

    def forward(call: Call, *inputs: Any) -> Array:
        return jnp.concatenate([call(name, *inputs) for name in parts], axis=axis)

    return compose(forward, **parts)


def scan(block: Model, length: int, *, unroll: bool | None = None) -> Model:
    """`length` copies of one block in series, compiled once, params and state stacked on a leading axis in `stacked`.

    The block must keep the shape of its input. Equal, keys included, to `serial` of the copies.
    `unroll=None` unrolls on CPU, where XLA runs convolutions inside a loop many times slower,
    and loops elsewhere. Paths of activations are `0/...`, `1/...`.
    """
    if length < 1:
        raise ValueError(f"scan: length must be at least 1, got {length}")
    names = [str(i) for i in range(length)]

    def forward(call: Call, x: Array) -> Array:
        for name in names:
            out = call(name, x)
            if jax.typeof(out).shape != jax.typeof(x).shape:
                raise ValueError(
                    f"scan: the block turned shape {x.shape} into {out.shape}; it must keep its input's shape"
                )
            x = out
        return x

    def take(tree: Any, name: str) -> Any:
        return jax.tree.map(lambda leaf: leaf[int(name)], unstacked(tree))

    def pack(branches: Mapping[str, Any]) -> Any:
        return stacked(jax.tree.map(lambda *leaves: jnp.stack(leaves), *(branches[name] for name in names)))

    graph = _Scan(forward, dict.fromkeys(names, block), take, pack, unroll=unroll)
    return Model(graph.init, graph)


@dataclass(frozen=True, eq=False)
class _Scan(Graph):
    unroll: bool | None = None

    def __call__(
        self, params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
    ) -> tuple[Any, State]:
        if self.unroll or (self.unroll is None and jax.default_backend() == "cpu"):
            return self.run(params, state, *inputs, train=train, key=key)
        block = self.parts["0"]
        keys = None if key is None else jnp.stack([fold_name(key, name) for name in self.parts])

        def body(x: Array, layer: tuple[Any, Any, Any]) -> tuple[Array, Any]:
            layer_params, layer_state, layer_key = layer
            return block.apply(layer_params, layer_state, x, train=train, key=layer_key)

        # A loop carries one dtype: the one to which the first block's params promote the input.
        floats = [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        x = promoted("scan", inputs[0], *floats)[0] if floats else inputs[0]
        copies = unstacked(params), unstacked(state), keys
        out, new = jax.lax.scan(body, x, copies, length=len(self.parts))
        return out, stacked(new)


def activations(
    model: Model, params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
) -> tuple[Any, dict[str, Any]]:
    """The output, and every intermediate output by path (`"block1/conv"`; a part's second call is `"mix:1"`)."""
    found: dict[str, Any] = {}

    def record(path: str, h: Any) -> Any:
        found[path] = h
        return h

    return tapped(model, record, params, state, *inputs, train=train, key=key)[0], found


def tapped(
    model: Model, tap: Tap, params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
) -> tuple[Any, State]:
    """Apply a composed model, or a Linen module, with every intermediate output replaced by `tap(path, output)`.

    Differentiating through a tap that adds a zero gives the gradient at that activation. Raises `ValueError` for a
    model without parts: one whose `apply` has no method `run(..., tap=)`.
    """
    if not hasattr(model.apply, "run"):
        raise ValueError("this model is a single layer: it has no parts to tap; its output is what apply returns")
    return model.apply.run(params, state, *inputs, train=train, key=key, tap=tap)


def compute_in(model: Model, dtype: Any) -> Model:
    """Mixed precision: params and floating inputs cast to `dtype` for the computation, outputs to float32.

    Params and state are stored in float32 all along; gradients arrive in float32, and the sums in them are taken in
    float32 at least (`dlcore.nn.dtypes`). Paths are unchanged. Raises `ValueError` for what is not a floating dtype.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"compute_in: {dtype} is no floating dtype; use bfloat16, float16, float32 or float64")
    forward = lambda call, *inputs: call("", *inputs)  # noqa: E731
    graph = _Cast(forward, {"": model}, lambda tree, name: tree, lambda branches: branches[""], dtype=dtype)
    return Model(graph.init, graph)


@dataclass(frozen=True, eq=False)
class _Cast(Graph):
    dtype: Any = jnp.float32

    def run(self, params: Params, state: State, *inputs: Any, **options: Any) -> tuple[Any, State]:
        out, new = super().run(_cast(params, self.dtype), state, *_cast(inputs, self.dtype), **options)
        kept = lambda now, old: now if now.dtype == old.dtype else now.astype(old.dtype)  # noqa: E731
        return _cast(out, jnp.float32), jax.tree.map(kept, new, state)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
