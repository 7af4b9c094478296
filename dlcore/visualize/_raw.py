"""Non-linearities that no part tells of, found in the program that a function is traced to (lecture 17).

`jax.nn.relu` has a name there, and so has every function behind `jax.jit`; `jnp.tanh` and `jax.nn.sigmoid` are
operations of their own. Other element-wise non-linearities of the input have none, and are refused: a rule must not
silently miss them. What belongs to a softmax, to the square root of a variance or to a pool is none of them.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn

from dlcore.setting import traced
from dlcore.visualize._program import Program, Step, Users, evaluated, flattened, live, name, users

MARK = "dlcore_part"
"""The name scope of what has been dealt with."""

ACTIVATIONS = frozenset((
    "relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "swish", "mish", "softplus",
    "squareplus", "soft_sign", "sparse_plus", "log_sigmoid", "sigmoid", "hard_sigmoid", "hard_silu",
    "hard_swish", "hard_tanh", "sparse_sigmoid", "tanh"
))  # fmt: skip
"""Names of functions behind `jax.jit` or `jax.custom_jvp` that are activations."""

ORDINARY = frozenset(("softmax", "_softmax", "log_softmax", "logsumexp", "glu", "dot_product_attention", "one_hot"))
"""Names of functions that keep their gradient."""

SATURATING = frozenset(("tanh", "logistic"))
"""Operations that are activations, unless what comes out of them multiplies something."""

KINKED = frozenset((
    "max", "min", "clamp", "select_n", "abs", "sign", "erf", "erfc", "erf_inv", "exp", "exp2", "expm1",
    "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh",
    "atan2", "floor", "ceil", "round", "rem", "cbrt", "lgamma", "digamma"
))  # fmt: skip
"""Element-wise operations that are refused outside of a known function."""

LINEAR = frozenset((
    "add", "sub", "neg", "reshape", "broadcast_in_dim", "squeeze", "expand_dims", "convert_element_type",
    "transpose", "copy"
))  # fmt: skip


def with_rule(function: Callable[..., Any], rule: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """`function` of arrays with `rule(x, y)` in the place of y = activation(x), for every activation with a name.

    What carries `MARK` as its name scope is left alone. Raises `ValueError` for a non-linearity without a name, and for
    one inside of a loop, a branch or a derivative of its own.
    """

    def changed(*inputs: Any) -> Any:
        closed, outputs = jax.make_jaxpr(function, return_shape=True)(*inputs)
        program = flattened(closed, _is_known)
        ruled = activations(program)
        found = evaluated(program, jax.tree.leaves(inputs), ruled, rule)
        return jax.tree.unflatten(jax.tree.structure(outputs), found)

    return changed


def activations(program: Program) -> dict[int, int]:
    """For every operation that is an activation of the input: its number, and the number of the value it acts on."""
    alive, takers, found = live(program), users(program), {}
    for i, step in enumerate(program.steps):
        operands, called = [number for number in step.inputs if number in alive], name(step.equation)
        if not operands or _marked(step.equation) or called in ORDINARY:
            continue
        gate = step.operation in SATURATING and _gates(step.outputs[0], takers, alive)
        if called in ACTIVATIONS or (step.operation in SATURATING and not gate):
            found[i] = operands[0]
        elif gate or _is_missed(step, program.known, takers, alive):
            raise ValueError(_message(step.equation))
    return found


def _is_known(equation: JaxprEqn) -> bool:
    return name(equation) in ACTIVATIONS | ORDINARY or _marked(equation)


def _marked(equation: JaxprEqn) -> bool:
    return MARK in str(equation.source_info.name_stack)


def _only_in(number: int, ends: tuple[str, ...], takers: Users) -> bool:
    """Whether a value goes into the operations `ends` and nothing else, by way of linear ones."""
    return all(
        step is not None
        and (step.operation in ends or (step.operation in LINEAR and _only_in(step.outputs[0], ends, takers)))
        for step in takers.get(number, [])
    )


def _gates(number: int, takers: Users, alive: set[int]) -> bool:
    """Whether a value, by way of linear operations, multiplies another that depends on the input."""
    for step in takers.get(number, []):
        if step is None:
            continue
        single = sum(value in alive for value in step.inputs) == 1
        if step.operation == "mul" and not single:
            return True
        linear = step.operation in LINEAR or (step.operation in ("mul", "div") and single)
        if linear and _gates(step.outputs[0], takers, alive):
            return True
    return False


def _is_missed(step: Step, known: Mapping[int, Any], takers: Users, alive: set[int]) -> bool:
    """Whether an operation is, or has inside of it, a non-linearity that no rule would see."""
    if step.operation == "select_n":
        return step.inputs[0] in alive
    if step.operation == "exp":  # Of a softmax, or of its logarithm.
        return any(user is None or user.operation not in ("reduce_sum", "div") for user in takers[step.outputs[0]])
    if step.operation == "max":  # Of nothing, or that keeps a variance from being negative.
        others = [known[number] for number in step.inputs if number in known and not traced(known[number])]
        nothing = any(np.all(np.isneginf(value)) for value in others)
        return not nothing and not _only_in(step.outputs[0], ("rsqrt", "sqrt", "stop_gradient"), takers)
    if step.operation in KINKED:
        return True
    return not step.operation.startswith(("reduce", "scatter", "sort")) and any(_hidden(step.equation))


def _hidden(equation: JaxprEqn) -> Iterator[str]:
    """Names of activations and other non-linearities in the bodies of an operation."""
    for value in equation.params.values():
        for body in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(body, "jaxpr", body)
            for inner in getattr(jaxpr, "eqns", ()):
                if name(inner) in ACTIVATIONS or inner.primitive.name in KINKED | SATURATING:
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
