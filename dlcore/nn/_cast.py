"""Mixed precision: a model that computes in another dtype than that of its params."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from dlcore.nn._graph import Graph
from dlcore.types import Model, Params, State


def compute_in(model: Model, dtype: Any) -> Model:
    """Mixed precision: params and floating inputs cast to `dtype` for the computation, outputs to float32.

    Params and state are stored in float32 all along; gradients arrive in float32, and the sums in them are taken in
    float32 at least (`dlcore.nn.widely`). Paths and kind are those of `model`. Raises `ValueError` for what is not a
    floating dtype.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"compute_in: {dtype} is no floating dtype; use bfloat16, float16, float32 or float64")
    forward = lambda call, *inputs: call("", *inputs)  # noqa: E731
    graph = _Cast(forward, {"": model}, lambda tree, name: tree, lambda branches: branches[""], dtype=dtype)
    return Model(graph.init, graph, model.kind)


def in_precision(model: Model, dtype: str) -> Model:
    """`model` for "float32", `compute_in` for "bfloat16"; raises `ValueError` for another name."""
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype must be float32 or bfloat16, got {dtype!r}")
    return compute_in(model, jnp.bfloat16) if dtype == "bfloat16" else model


@dataclass(frozen=True, eq=False)
class _Cast(Graph):
    dtype: Any = jnp.float32

    def run(self, params: Params, state: State, *inputs: Any, **options: Any) -> tuple[Any, State]:
        out, new = super().run(_cast(params, self.dtype), state, *_cast(inputs, self.dtype), **options)
        kept = lambda now, old: now if now.dtype == old.dtype else now.astype(old.dtype)  # noqa: E731
        return _cast(out, jnp.float32), jax.tree.map(kept, new, state)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
