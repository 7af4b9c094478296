"""What a computation does, from its jaxpr: its loops, what depends on what, and floating-point operations."""

import math
from collections.abc import Iterator
from typing import Any

from dlcore.nn._conv.lowering import onednn

CONVOLUTION = "conv_general_dilated"

TAPS = ("sum_of_taps", "sum_of_moved_taps")
"""Jitted functions of `_conv/lowering` in which the products of cells are a convolution."""


def equations(jaxpr: Any, function: str = "") -> Iterator[tuple[Any, int, str]]:
    """Every equation of a (closed) jaxpr and of those inside it, with how often it runs and in which jitted function.

    Loops count as often as their static length says, a `while_loop` once, every branch of a `cond` once.
    """
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation, 1, function
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        name = equation.params.get("name", function)
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(getattr(inner, "jaxpr", inner), "eqns"):
                    yield from ((found, count * times, where) for found, count, where in equations(inner, name))


def convolves(jaxpr: Any) -> bool:
    """Whether a convolution of XLA's occurs anywhere: inside a loop, XLA runs it many times slower on CPU."""
    return any(equation.primitive.name == CONVOLUTION for equation, *_ in equations(jaxpr))


def depends(jaxpr: Any, count: int) -> bool:
    """Whether an output of a closed jaxpr may depend on the values of its first `count` inputs, by what feeds what."""
    return any(sources(jaxpr, count))


def sources(jaxpr: Any, count: int) -> list[set[int]]:
    """For every output of a closed jaxpr the numbers of those of its first `count` inputs that it may depend on."""
    fed = {v: {i} for i, v in enumerate(jaxpr.jaxpr.invars[:count])}
    found = lambda variables: set().union(*(fed.get(v, ()) for v in variables if not hasattr(v, "val")))  # noqa: E731
    for equation in jaxpr.jaxpr.eqns:
        if into := found(equation.invars):
            fed.update(dict.fromkeys(equation.outvars, into))
    return [found([v]) for v in jaxpr.jaxpr.outvars]


def loops(jaxpr: Any) -> Iterator[Any]:
    """The bodies of every `scan` and `while_loop`."""
    for equation, *_ in equations(jaxpr):
        if equation.primitive.name in ("scan", "while"):
            yield equation.params.get("jaxpr") or equation.params["body_jaxpr"]


def flops(jaxpr: Any) -> int:
    """Floating-point operations of all matrix products and convolutions: two per multiply–add.

    Element-wise work is left out, as is usual when networks are compared. Products with padding count.
    """
    return sum(count * _equation_flops(equation, function) for equation, count, function in equations(jaxpr))


def _equation_flops(equation: Any, function: str) -> int:
    size = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "dot_general":
        shape = equation.invars[0].aval.shape
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * size * math.prod(shape[axis] for axis in contracted)
    if equation.primitive.name == CONVOLUTION:
        kernel = equation.invars[1].aval.shape
        taps = math.prod(kernel) // kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        # The zeros between the cells of a dilated input, as in the gradient of a stride, do not count.
        return 2 * size * taps // math.prod(equation.params["lhs_dilation"])
    if equation.primitive.name in onednn.SHAPES:
        return 2 * onednn.multiplications(equation.primitive.name, equation.invars, equation.params["geometry"])
    return 2 * size if equation.primitive.name == "mul" and function in TAPS else 0
