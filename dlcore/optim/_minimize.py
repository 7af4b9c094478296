"""One contract for every way to minimise a function (lecture 4.3.4).

A method is a pair of pure functions that map one `Iterate` to the next, whatever it goes by: gradients, second
derivatives, a grid or a population. `run` is the loop, pure, so that it can be jitted and vmapped over starting points
and hyper-parameters; `minimize` is `run` compiled, with checks before and the reason for stopping in words after.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from dlcore.precision import highest
from dlcore.setting import Number, whole
from dlcore.types import Key

REASONS = ("budget", "gradient", "step", "value", "complete", "diverged")
"""Why a run stopped: `steps` were used up; the gradient's norm, the step's size or the value fell to its tolerance; the
method has nothing left to try; value, point or gradient would have become infinite or NaN."""

Function = Callable[..., Array]
"""The objective: a point to a scalar; for methods of least squares to the residuals r of ½‖r‖²; for stochastic ones a
point and a key to an estimate."""


class Iterate(NamedTuple):
    """Where a method is. Measures that it does not have are infinite, so that they never stop a run."""

    x: Array
    """The current point [n]; of a population, the best point so far."""
    value: Array
    gradient_norm: Array
    """‖∇f(x)‖."""
    step_size: Array
    """Length of the last step; of a population, its spread."""
    evaluations: Array
    """Evaluations of f so far: a value, a gradient (with the value) and a Hessian-vector product count one each."""
    complete: Array
    """Whether the method has nothing left to do."""
    memory: Any
    """What else the method carries from step to step."""


class Method(NamedTuple):
    """A way to minimise: `init(f, x0, key) -> Iterate` and `step(f, iterate, key) -> Iterate`, for flat x [n].

    The key is None when the caller gave none; a method that draws numbers then raises `ValueError` in `init`.
    """

    init: Callable[[Function, Array, Key | None], Iterate]
    step: Callable[[Function, Iterate, Key | None], Iterate]
    residuals: bool = False
    """Whether f gives residuals, the objective being ½‖f(x)‖²."""
    stochastic: bool = False
    """Whether f takes a key too and gives an estimate, the objective being its mean E[f(x, key)]."""


class Trace(NamedTuple):
    """The way of a run, the start first: k + 1 entries for k steps."""

    points: Any
    """[k + 1, n], or [k + 1, 0] when points were not kept."""
    values: Any
    gradient_norms: Any
    evaluations: Any


class Run(NamedTuple):
    """What `run` returns, as arrays; the trace has steps + 1 entries, the last of which are repeated after the stop."""

    x: Any
    value: Array
    steps: Array
    evaluations: Array
    reason: Array
    """Index into `REASONS`."""
    trace: Trace


class Result(NamedTuple):
    """What `minimize` returns: the last finite point (of a population the best), and how it got there."""

    x: Any
    value: float
    trace: Trace
    reason: str
    steps: int
    evaluations: int


def state(
    x: Array,
    value: Array,
    *,
    gradient_norm: Any = math.inf,
    step_size: Any = math.inf,
    evaluations: Any,
    complete: Any = False,
    memory: Any = (),
) -> Iterate:
    """An `Iterate` with the types that the loop carries."""
    numbers = (jnp.asarray(number, x.dtype) for number in (value, gradient_norm, step_size))
    return Iterate(x, *numbers, jnp.asarray(evaluations, jnp.int32), jnp.asarray(complete, bool), memory)


def finite_or_worst(values: Array) -> Array:
    """Values with NaN and −∞ turned into +∞, so that they rank last."""
    return jnp.where(jnp.isfinite(values), values, jnp.inf)


def better_of(best: Array, value: Array, now: Iterate) -> tuple[Array, Array, Array]:
    """Whether the new value is better than the best so far, and the point and value that now are; NaN never is."""
    better = finite_or_worst(value) < finite_or_worst(now.value)
    return better, jnp.where(better, best, now.x), jnp.where(better, value, now.value)


@highest
def run(
    method: Method,
    f: Function,
    x0: Any,
    *,
    steps: int,
    gradient_tolerance: Any = 1e-6,
    step_tolerance: Any = 0.0,
    target: Any = -math.inf,
    key: Key | None = None,
    keep_points: bool = True,
) -> Run:
    """The loop of `minimize` without its checks, pure: fit for `jit`, and for `vmap` over anything that is an array."""
    start, unravel = ravel_pytree(jax.tree.map(_floating, x0))

    def flat(v: Array, *rest: Any) -> Array:
        return f(unravel(v), *rest)

    def verdict(now: Iterate) -> Array:
        met = (
            now.gradient_norm <= gradient_tolerance,
            now.step_size <= step_tolerance,
            now.value <= target,
            now.complete,
        )
        return jnp.select(met, jnp.arange(1, 5, dtype=jnp.int32), 0)

    def record(trace: Trace, k: Array, now: Iterate) -> Trace:
        row = now.x if keep_points else now.x[:0]
        news = Trace(row, now.value, now.gradient_norm, now.evaluations)
        return Trace(*(t.at[k].set(new) for t, new in zip(trace, news, strict=True)))

    def body(carry: tuple[Array, Iterate, Array, Trace]) -> tuple[Array, Iterate, Array, Trace]:
        k, now, _, trace = carry
        new = method.step(flat, now, None if key is None else jax.random.fold_in(key, k + 1))
        finite = jnp.isfinite(new.value) & jnp.isfinite(new.x).all() & ~jnp.isnan(new.gradient_norm)
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, now)._replace(evaluations=new.evaluations)
        k = k + finite
        reason = jnp.where(finite, verdict(new), REASONS.index("diverged")).astype(jnp.int32)
        return k, kept, reason, record(trace, k, kept)

    def going(carry: tuple[Array, Iterate, Array, Trace]) -> Array:
        return (carry[0] < steps) & (carry[2] == 0)

    first = method.init(flat, start, None if key is None else jax.random.fold_in(key, 0))
    blank = functools.partial(jnp.zeros, dtype=start.dtype)
    rows, counts = start.size if keep_points else 0, jnp.zeros(steps + 1, jnp.int32)
    empty = Trace(blank((steps + 1, rows)), blank(steps + 1), blank(steps + 1), counts)
    zero = jnp.zeros((), jnp.int32)
    k, last, reason, trace = jax.lax.while_loop(going, body, (zero, first, verdict(first), record(empty, zero, first)))
    upto = jnp.minimum(jnp.arange(steps + 1), k)
    return Run(unravel(last.x), last.value, k, last.evaluations, reason, Trace(*(t[upto] for t in trace)))


def _floating(leaf: Any) -> Array:
    """Integers in the default float dtype, half precision in single."""
    dtype = jnp.result_type(leaf, float)
    return jnp.asarray(leaf, dtype if dtype.itemsize >= 4 else jnp.float32)


_compiled = functools.partial(jax.jit, static_argnames=("method", "f", "steps", "keep_points"))(run)


def minimize(
    method: Method,
    f: Function,
    x0: Any,
    *,
    steps: int,
    gradient_tolerance: Number = 1e-6,
    step_tolerance: Number = 0.0,
    target: Number = -math.inf,
    key: Key | None = None,
    keep_points: bool = True,
) -> Result:
    """Minimise f from x0, an array or any pytree of arrays, until a criterion holds.

    It stops when ‖∇f‖ ≤ `gradient_tolerance`, the step's length ≤ `step_tolerance`, f ≤ `target`, or after `steps`
    steps: see `REASONS`. A step to where f is not finite is undone and ends the run with the reason "diverged".
    Compiled once per method, function and shape: make a method once and use it often. Raises `ValueError` when f is not
    scalar (not a vector for a method of residuals), when f or its gradient is not finite at x0, or without a key for a
    random method. `keep_points=False` saves memory where steps × n is large.
    """
    steps = whole(steps, "minimize: steps", least=0)
    x0 = jax.tree.map(_floating, x0)
    if method.stochastic and key is None:
        raise ValueError("minimize: a stochastic method draws numbers; pass key=jax.random.key(seed)")
    given = (x0, key) if method.stochastic else (x0,)
    shape, wanted = jax.eval_shape(f, *given).shape, "a vector of residuals" if method.residuals else "a scalar"
    if len(shape) != int(method.residuals):
        raise ValueError(f"minimize: f must give {wanted}, and gives shape {shape}")
    found = _compiled(
        method,
        f,
        x0,
        steps=steps,
        gradient_tolerance=gradient_tolerance,
        step_tolerance=step_tolerance,
        target=target,
        key=key,
        keep_points=keep_points,
    )
    trace = Trace(*(np.asarray(t)[: int(found.steps) + 1] for t in found.trace))
    if not np.isfinite(trace.values[0]) or np.isnan(trace.gradient_norms[0]):
        raise ValueError(
            f"minimize: at x0 f is {trace.values[0]} and its gradient's norm {trace.gradient_norms[0]}; start where "
            "both are finite"
        )
    reason = REASONS[int(found.reason)]
    return Result(found.x, float(found.value), trace, reason, int(found.steps), int(found.evaluations))
