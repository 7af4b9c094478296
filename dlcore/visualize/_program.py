"""A traced function as a list of operations, to be looked at and run with some of them changed."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from jax.extend.core import ClosedJaxpr, DebugInfo, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

CALLS = frozenset(("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"))
"""Operations that only group others."""


class Step(NamedTuple):
    """One operation; its operands and results are numbers of values."""

    equation: JaxprEqn
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def operation(self) -> str:
        """The name of the primitive."""
        return self.equation.primitive.name


class Program(NamedTuple):
    """A function's operations in order, without calls; values that are known beforehand by number."""

    steps: list[Step]
    known: dict[int, Any]
    inputs: list[int]
    outputs: list[int]
    names: DebugInfo


Users: TypeAlias = dict[int, list[Step | None]]
"""What takes each value; None stands for the outputs of the program."""


def flattened(closed: Any, whole: Callable[[JaxprEqn], bool]) -> Program:
    """The program with all calls taken apart, but for those that are to stay `whole`."""
    count, known, steps = itertools.count(), {}, []

    def constant(value: Any) -> int:
        number = next(count)
        known[number] = value
        return number

    def walk(closed: Any, inputs: list[int]) -> list[int]:
        jaxpr = getattr(closed, "jaxpr", closed)
        numbers = dict(zip(jaxpr.invars, inputs, strict=True))
        consts = map(constant, getattr(closed, "consts", ()))
        numbers |= dict(zip(jaxpr.constvars, consts, strict=True))
        at = lambda var: constant(var.val) if isinstance(var, Literal) else numbers[var]  # noqa: E731
        for equation in jaxpr.eqns:
            operands = [at(var) for var in equation.invars]
            if equation.primitive.name in CALLS and not whole(equation):
                results = walk(body(equation), operands)
            else:
                results = [next(count) for _ in equation.outvars]
                steps.append(Step(equation, tuple(operands), tuple(results)))
            numbers |= dict(zip(equation.outvars, results, strict=True))
        return [at(var) for var in jaxpr.outvars]

    inputs = [next(count) for _ in closed.jaxpr.invars]
    return Program(steps, known, inputs, walk(closed, inputs), closed.jaxpr.debug_info)


def evaluated(
    program: Program, inputs: list[Any], ruled: Mapping[int, int], rule: Callable[[Any, Any], Any]
) -> list[Any]:
    """The outputs, with the rule behind the operations `ruled`."""
    values = dict(program.known) | dict(zip(program.inputs, inputs, strict=True))
    for i, step in enumerate(program.steps):
        results = _computed(step, [values[number] for number in step.inputs], program.names)
        if i in ruled:
            results = [rule(values[ruled[i]], y) for y in results]
        values |= dict(zip(step.outputs, results, strict=True))
    return [values[number] for number in program.outputs]


def _computed(step: Step, operands: list[Any], names: DebugInfo) -> list[Any]:
    """The results of one operation, as a program of its own: only so does it keep a derivative of its own."""
    equation = step.equation
    pairs = zip(equation.invars, operands, strict=True)
    given = {var: value for var, value in pairs if not isinstance(var, Literal)}
    alone = Jaxpr((), list(given), equation.outvars, [equation], equation.effects, names)
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*given.values())


def body(equation: JaxprEqn) -> Any:
    """The program that an operation calls."""
    return equation.params.get("jaxpr", equation.params.get("call_jaxpr"))


def name(equation: JaxprEqn) -> str:
    """The name of the function that an operation calls; some wrap one that has it."""
    if equation.primitive.name in CALLS or "name" in equation.params:
        return str(equation.params.get("name", ""))
    if equation.primitive.name == "custom_jvp_call" and len(inner := body(equation).jaxpr.eqns) == 1:
        return name(inner[0])
    return ""


def live(program: Program) -> set[int]:
    """The values that depend on the inputs."""
    found = set(program.inputs)
    for step in program.steps:
        if found & set(step.inputs):
            found |= set(step.outputs)
    return found


def users(program: Program) -> Users:
    """What takes each value."""
    found: Users = {}
    for step in program.steps:
        for number in step.inputs:
            found.setdefault(number, []).append(step)
    for number in program.outputs:
        found.setdefault(number, []).append(None)
    return found
