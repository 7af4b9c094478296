"""Combinators: bigger models from smaller ones (lecture 8.2).

All follow from `dlcore.nn.compose`, which takes any forward function.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dlcore.backend import on_cpu
from dlcore.keys import fold_name
from dlcore.nn._dtypes import promoted
from dlcore.nn._function import Function
from dlcore.nn._graph import Call, Graph, compose, numbered
from dlcore.setting import whole
from dlcore.tree import stacked, unstacked
from dlcore.types import Key, Model, Params, State


def serial(*models: Model, **named: Model) -> Model:
    """Feed each model the output of the one before: f_n ∘ … ∘ f_1.

    Positional models are called by their kind (`dense_0`, `activation_0`, `dense_1`); keyword models, which follow,
    keep their names. The first model may take several arrays.
    """
    parts = {**numbered(models), **named}

    def forward(call: Call, *inputs: Any) -> Any:
        for name in parts:
            inputs = (call(name, *inputs),)
        return inputs[0]

    return compose(forward, **parts)._replace(kind="serial")


def identity() -> Model:
    """The model that returns its input."""
    return Function(lambda x: x, "identity")


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

    parts = {"body": body} | ({} if shortcut is None else {"shortcut": shortcut})
    return compose(forward, **parts)._replace(kind="residual")


def concat(*branches: Model, axis: int = -1, **named: Model) -> Model:
    """Run every branch on the same inputs and join the outputs along `axis`, in the order given."""
    parts, axis = {**numbered(branches), **named}, whole(axis, "concat: axis", least=-99)

    def forward(call: Call, *inputs: Any) -> Array:
        return jnp.concatenate([call(name, *inputs) for name in parts], axis=axis)

    return compose(forward, **parts)._replace(kind="concat")


def scan(block: Model, length: int, *, unroll: bool | None = None) -> Model:
    """`length` copies of one block in series, compiled once, params and state stacked on a leading axis in `stacked`.

    The block must keep the shape of its input. Equal, keys included, to `serial` of the copies.
    `unroll=None` unrolls on CPU, where XLA runs convolutions inside a loop many times slower,
    and loops elsewhere. Paths of activations are `0/...`, `1/...`.
    """
    length = whole(length, "scan: length")
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
    return Model(graph.init, graph, "scan")


@dataclass(frozen=True, eq=False)
class _Scan(Graph):
    unroll: bool | None = None

    def __call__(
        self, params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
    ) -> tuple[Any, State]:
        if self.unroll or (self.unroll is None and on_cpu()):
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
