"""The summary table of a model: path, output shape, parameters, floating-point operations."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dlcore.nn._count import flops
from dlcore.nn._graph import Graph
from dlcore.tree import named_leaves
from dlcore.types import Model, Params


class Row(NamedTuple):
    """One part of a model by path, or the whole, whose path is empty."""

    path: str
    shape: str
    parameters: int
    flops: int


def summarize(model: Model, *inputs: Any) -> list[Row]:
    """One row per part, each before its own parts, the whole model first; nothing is computed.

    A part that is called twice has one row, that of its first call. Operations are those of the forward
    pass on `inputs` (arrays or shapes), counted by `dlcore.nn.flops`; a part's include its parts'.
    """
    params, state = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return _rows(model, (params, state, *inputs), "")


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text with a header."""
    cells = [("path", "output", "parameters", "FLOPs")]
    cells += [(row.path or "(all)", row.shape, f"{row.parameters:,}", f"{row.flops:,}") for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(4)]
    aligned = ((p.ljust(widths[0]), s.ljust(widths[1]), n.rjust(widths[2]), f.rjust(widths[3])) for p, s, n, f in cells)
    return "\n".join("  ".join(line) for line in aligned)


def tables(*calls: tuple[Any, ...]) -> str:
    """The tables of several models, one below the other; a call is (model, *inputs) as for `summarize`."""
    return "\n".join(table(summarize(*call)) for call in calls)


def example(shape: Sequence[int], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """A batch of one example of a shape, for `summarize` and others that compute nothing.

    >>> example((28, 28, 1)).shape
    (1, 28, 28, 1)
    """
    return jax.ShapeDtypeStruct((1, *shape), dtype)


def branch_table(params: Params) -> str:
    """Numbers of parameters by the branch that holds them, for what is no `Model`: arrays, or shapes of arrays.

    >>> print(branch_table({"step": {"kernel": jax.ShapeDtypeStruct((2, 3), float)}}))
    step            6
    (all)           6
    """
    counts: dict[str, int] = {}
    for path, leaf in named_leaves(params):
        name = path.rsplit("/", 1)[0]
        counts[name] = counts.get(name, 0) + math.prod(leaf.shape)
    counts["(all)"] = sum(counts.values())
    width = max(map(len, counts))
    return "\n".join(f"{name:<{width}}  {count:>10,}" for name, count in counts.items())


def _rows(model: Model, args: tuple[Any, ...], path: str) -> list[Row]:
    first: dict[str, tuple[Any, ...]] = {}
    jaxpr, out = jax.make_jaxpr(_noting(model, first), return_shape=True)(*args)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(args[0]))
    shape = " ".join("×".join(map(str, leaf.shape)) for leaf in jax.tree.leaves(out))
    rows = [Row(path, shape, count, flops(jaxpr))]
    for name, part_args in first.items():
        below = f"{path}/{name}" if path and name else path or name
        found = _rows(model.apply.parts[name], part_args, below)
        rows += found if name else found[1:]
    return rows


def _noting(model: Model, first: dict[str, tuple[Any, ...]]) -> Callable[..., Any]:
    """The outputs of a model; `first` gets the shapes of (params, state, *inputs) at the first call of each part."""
    if not isinstance(model.apply, Graph):
        return lambda *args: model.apply(*args)[0]

    def around(name: str, part: Model) -> Callable[..., Any]:
        def apply(*args: Any, **options: Any) -> Any:
            if name in model.apply.parts:
                first[name] = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
            return part.apply(*args, **options)

        return apply

    return lambda *args: model.apply.run(*args, around=around)[0]
