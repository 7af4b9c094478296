"""The summary table of a model: path, output shape, parameters, floating-point operations."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dlcore.nn._count import equations, flops
from dlcore.nn._graph import Graph
from dlcore.tree import named_leaves
from dlcore.types import Model, Params, State

PART = "part "
"""Before the path of a part that is jitted: JAX's own functions are called `matmul` and `relu`, as parts may be."""


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
    notes: dict[str, tuple[str, int]] = {}
    jaxpr = jax.make_jaxpr(_noting(model, "", notes))(params, state, *inputs)
    counts = {"": flops(jaxpr)}
    for equation, *_ in equations(jaxpr):
        if (name := str(equation.params.get("name"))).startswith(PART):
            counts.setdefault(name.removeprefix(PART), flops(equation.params["jaxpr"]))
    return [Row(path, shape, parameters, counts[path]) for path, (shape, parameters) in notes.items()]


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


def _noting(model: Model, path: str, notes: dict[str, tuple[str, int]]) -> Callable[..., Any]:
    """The `apply` of a model; its parts run in jitted functions named by their paths.

    `notes` gets the shape of what each puts out, and its number of parameters, when it is first called.
    """

    def around(name: str, part: Model) -> Callable[..., Any]:
        if name not in model.apply.parts:
            return part.apply
        run = _noting(part, "/".join(filter(None, (path, name))), notes)
        # A part without a name is what the whole is made of, such as the network that is computed in another dtype.
        run = jax.jit(run) if name else run
        return lambda *args, train, key: run(*args)

    def noted(params: Params, state: State, *inputs: Any) -> tuple[Any, State]:
        notes.setdefault(path, ("", 0))
        run = partial(model.apply.run, around=around) if isinstance(model.apply, Graph) else model.apply
        out, state = run(params, state, *inputs)
        shapes = " ".join("×".join(map(str, leaf.shape)) for leaf in jax.tree.leaves(out))
        notes[path] = shapes, sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
        return out, state

    noted.__name__ = PART + path
    return noted
