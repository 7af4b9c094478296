"""Non-linearities that no part tells of, found in the program that a function is traced to (lecture 17).

`jax.nn.relu` has a name there, and so has every function behind `jax.jit`; `jnp.tanh` and `jax.nn.sigmoid` are
operations of their own. Other element-wise non-linearities of the input have none, and are refused: a rule must not
silently miss them. What belongs to a softmax, to the square root of a variance or to a pool is none of them.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, DebugInfo, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

MARK = "dlcore_part"
"""The name scope of what has been dealt with."""

ACTIVATIONS = frozenset(
    (
        *(
            "relu",
            "relu6",
            "leaky_relu",
            "elu",
            "celu",
            "selu",
            "gelu",
            "silu",
            "swish",
            "mish",
            "softplus",
            "squareplus",
        ),
        *("soft_sign", "sparse_plus", "log_sigmoid", "sigmoid", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh"),
        *("sparse_sigmoid", "tanh"),
    )
)
"""Names of functions behind `jax.jit` or `jax.custom_jvp` that are activations."""

ORDINARY = frozenset(("softmax", "_softmax", "log_softmax", "logsumexp", "glu", "dot_product_attention", "one_hot"))
"""Names of functions that keep their gradient."""

SATURATING = frozenset(("tanh", "logistic"))
"""Operations that are activations, unless what comes out of them multiplies something."""

KINKED = frozenset(
    (
        *("max", "min", "clamp", "select_n", "abs", "sign", "erf", "erfc", "erf_inv", "exp", "exp2", "expm1", "log1p"),
        *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "atan2"),
        *("floor", "ceil", "round", "rem", "cbrt", "lgamma", "digamma"),
    )
)
"""Element-wise operations that are refused outside of a known function."""

CALLS = frozenset(("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"))
"""Operations that only group others."""

LINEAR = frozenset(
    (
        *("add", "sub", "neg", "reshape", "broadcast_in_dim", "squeeze", "expand_dims", "convert_element_type"),
        *("transpose", "copy"),
    )
)


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


def with_rule(function: Callable[..., Any], rule: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """`function` of arrays with `rule(x, y)` in the place of y = activation(x), for every activation with a name.

    What carries `MARK` as its name scope is left alone. Raises `ValueError` for a non-linearity without a name, and for
    one inside of a loop, a branch or a derivative of its own.
    """

    def changed(*inputs: Any) -> Any:
        closed, outputs = jax.make_jaxpr(function, return_shape=True)(*inputs)
        program = flattened(closed)
        ruled = activations(program)
        found = evaluated(program, jax.tree.leaves(inputs), ruled, rule)
        return jax.tree.unflatten(jax.tree.structure(outputs), found)

    return changed


def flattened(closed: Any) -> Program:
    """The program with all groups of operations taken apart, but for functions with a known name."""
    count, known, steps = itertools.count(), {}, []

    def constant(value: Any) -> int:
        number = next(count)
        known[number] = value
        return number

    def walk(closed: Any, inputs: list[int]) -> list[int]:
        jaxpr = getattr(closed, "jaxpr", closed)
        numbers = dict(zip(jaxpr.invars, inputs, strict=True))
        numbers |= {
            var: constant(value) for var, value in zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=True)
        }
        at = lambda var: constant(var.val) if isinstance(var, Literal) else numbers[var]  # noqa: E731
        for equation in jaxpr.eqns:
            operands = [at(var) for var in equation.invars]
            if _opens(equation):
                results = walk(_body(equation), operands)
            else:
                results = [next(count) for _ in equation.outvars]
                steps.append(Step(equation, tuple(operands), tuple(results)))
            numbers |= dict(zip(equation.outvars, results, strict=True))
        return [at(var) for var in jaxpr.outvars]

    inputs = [next(count) for _ in closed.jaxpr.invars]
    return Program(steps, known, inputs, walk(closed, inputs), closed.jaxpr.debug_info)


def activations(program: Program) -> dict[int, int]:
    """For every operation that is an activation of the input: its number, and the number of the value it acts on."""
    live, users, found = _live(program), _users(program), {}
    for i, step in enumerate(program.steps):
        operands, name = [number for number in step.inputs if number in live], _name(step.equation)
        if not operands or _marked(step.equation) or name in ORDINARY:
            continue
        gate = step.operation in SATURATING and _gates(step.outputs[0], users, live)
        if name in ACTIVATIONS or (step.operation in SATURATING and not gate):
            found[i] = operands[0]
        elif gate or _is_missed(step, program.known, users, live):
            raise ValueError(_message(step.equation))
    return found


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


def _body(equation: JaxprEqn) -> Any:
    return equation.params.get("jaxpr", equation.params.get("call_jaxpr"))


def _opens(equation: JaxprEqn) -> bool:
    known = _name(equation) in ACTIVATIONS | ORDINARY
    return equation.primitive.name in CALLS and not known and not _marked(equation)


def _marked(equation: JaxprEqn) -> bool:
    return MARK in str(equation.source_info.name_stack)


def _name(equation: JaxprEqn) -> str:
    """The name of the function that an operation calls; some wrap one that has it."""
    name = equation.params.get("name")
    if equation.primitive.name in CALLS or name:
        return name or ""
    if equation.primitive.name == "custom_jvp_call" and len(inner := _body(equation).jaxpr.eqns) == 1:
        return _name(inner[0])
    return ""


def _live(program: Program) -> set[int]:
    """The values that depend on the inputs."""
    live = set(program.inputs)
    for step in program.steps:
        if live & set(step.inputs):
            live |= set(step.outputs)
    return live


def _users(program: Program) -> Users:
    users: Users = {}
    for step in program.steps:
        for number in step.inputs:
            users.setdefault(number, []).append(step)
    for number in program.outputs:
        users.setdefault(number, []).append(None)
    return users


def _only_in(number: int, ends: tuple[str, ...], users: Users) -> bool:
    """Whether a value goes into the operations `ends` and nothing else, by way of linear ones."""
    return all(
        step is not None
        and (step.operation in ends or (step.operation in LINEAR and _only_in(step.outputs[0], ends, users)))
        for step in users.get(number, [])
    )


def _gates(number: int, users: Users, live: set[int]) -> bool:
    """Whether a value, by way of linear operations, multiplies another that depends on the input."""
    for step in users.get(number, []):
        if step is None:
            continue
        single = sum(value in live for value in step.inputs) == 1
        if step.operation == "mul" and not single:
            return True
        linear = step.operation in LINEAR or (step.operation in ("mul", "div") and single)
        if linear and _gates(step.outputs[0], users, live):
            return True
    return False


def _is_missed(step: Step, known: Mapping[int, Any], users: Users, live: set[int]) -> bool:
    """Whether an operation is, or has inside of it, a non-linearity that no rule would see."""
    if step.operation == "select_n":
        return step.inputs[0] in live
    if step.operation == "exp":  # Of a softmax, or of its logarithm.
        return any(user is None or user.operation not in ("reduce_sum", "div") for user in users[step.outputs[0]])
    if step.operation == "max":  # Of nothing, or that keeps a variance from being negative.
        nothing = any(np.all(np.isneginf(known[number])) for number in step.inputs if number in known)
        return not nothing and not _only_in(step.outputs[0], ("rsqrt", "sqrt", "stop_gradient"), users)
    if step.operation in KINKED:
        return True
    return not step.operation.startswith(("reduce", "scatter", "sort")) and any(_hidden(step.equation))


def _hidden(equation: JaxprEqn) -> Iterator[str]:
    """Names of activations and other non-linearities in the bodies of an operation."""
    for value in equation.params.values():
        for body in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(body, "jaxpr", body)
            for inner in getattr(jaxpr, "eqns", ()):
                if _name(inner) in ACTIVATIONS or inner.primitive.name in KINKED | SATURATING:
                    yield inner.primitive.name
                yield from _hidden(inner)


def _message(equation: JaxprEqn) -> str:
    hidden = next(_hidden(equation), "")
    what = f"{hidden!r} inside of {equation.primitive.name!r}" if hidden else repr(equation.primitive.name)
    place = str(equation.source_info.name_stack)
    return (
        f"a backward rule cannot see the non-linearity {what}{f' in {place}' if place else ''}: it has no name. "
        f"Make it a part, Activation(function), or call it by a name, as jax.nn.relu or jax.jit(flax.linen.gelu)"
    )
