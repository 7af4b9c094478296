"""Seeing and changing what happens inside a composed model, part by part, without touching the model (lecture 17).

Reading activations, adding to them, other backward passes and frozen statistics are rules of one interceptor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dlcore.nn._graph import Graph
from dlcore.types import Key, Model, Params, State

Apply = Callable[..., tuple[Any, State]]

Rule = Callable[[str, Model, tuple[Any, ...], Callable[..., Any]], Any]
"""`rule(path, part, inputs, proceed) -> outputs`: what a call of a part gives; `proceed(*inputs)` computes the part."""


def intercepted(model: Model, rule: Rule) -> Model:
    """`model`, with `rule(path, part, inputs, proceed)` in the place of every call of every part.

    `path` names the call ("block_1/conv"; the second call of a part is "relu:1", and what it calls "block:1/conv"),
    `part` is the part with its `kind`, `inputs` is what it is called with. `proceed(*inputs)` computes the part and
    returns its outputs; `proceed(*inputs, train=False)` does so as in inference. Composed parts are seen as well as
    their own parts, which run inside of `proceed`. Params, state, keys and `init` are those of the model; a part whose
    rule does not proceed keeps its state, and one that proceeds several times gets the state of the last.

    Of several rules, the one of the innermost `intercepted` call is nearest to the part: it is what the `proceed` of
    the others runs. Models made of the same model and equal rules are equal, so that they do not retrace as static
    arguments of `jax.jit`: let a rule be a module-level function or a frozen dataclass that is called.

    A rule with a backward pass of its own ends in an identity that has it, `own_backward(proceed(*inputs))` with
    `own_backward` a `jax.custom_vjp`; a `custom_vjp` around `proceed` would hide the params and leak the state.

    Limits: `scan` is unrolled; what has no parts that it tells of is one part (an `ensemble`, a model with weight noise
    or from Flax: functions called inside a Flax module are not seen). Raises `ValueError` for a model without parts.
    """
    apply = _inside(model.apply, (("", rule),))
    if not isinstance(apply, Intercepted):
        raise ValueError(
            f"this model is a single layer of kind {model.kind!r} and has no parts; pass serial(model), of "
            f"which it is a part"
        )
    return model._replace(apply=apply)


@dataclass(frozen=True)
class Intercepted:
    """The `apply` of an intercepted model: a graph, and rules from the nearest to its parts outwards.

    Each rule comes with the path of the graph as that rule sees it.
    """

    graph: Graph
    rules: tuple[tuple[str, Rule], ...]

    def __call__(
        self, params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
    ) -> tuple[Any, State]:
        return self.graph.run(params, state, *inputs, train=train, key=key, around=self._around)

    def _around(self, name: str, part: Model) -> Apply:
        rules = tuple((f"{path}/{name}" if path and name else path or name, rule) for path, rule in self.rules)
        apply = _inside(part.apply, rules)
        if not name:  # A wrapper's only part is the model itself.
            return apply
        for path, rule in rules:
            apply = _ruled(apply, path, part, rule)
        return apply


def _inside(apply: Apply, rules: tuple[tuple[str, Rule], ...]) -> Apply:
    """`apply` with the rules at its parts, behind those that it has; itself if it has no parts."""
    if isinstance(apply, Intercepted):
        return Intercepted(apply.graph, apply.rules + rules)
    return Intercepted(apply, rules) if isinstance(apply, Graph) else apply


def _ruled(apply: Apply, path: str, part: Model, rule: Rule) -> Apply:
    def ruled(
        params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
    ) -> tuple[Any, State]:
        new = state

        def proceed(*inputs: Any, train: bool = train, **options: Any) -> Any:
            nonlocal new
            outputs, new = apply(params, state, *inputs, train=train, key=key, **options)
            return outputs

        outputs = rule(path, part, inputs, proceed)
        return outputs, new

    return ruled


def activations(
    model: Model, params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
) -> tuple[Any, dict[str, Any]]:
    """The output, and every intermediate output by path (`"block1/conv"`; a part's second call is `"mix:1"`)."""
    found: dict[str, Any] = {}

    def record(path: str, h: Any) -> Any:
        found[path] = h
        return h

    return tapped(model, record, params, state, *inputs, train=train, key=key)[0], found


def last_features(model: Model, params: Params, state: State, x: Any) -> tuple[Any, Any]:
    """(features [b, d], output): what the last of a network's layers is given, and what it makes of it."""
    output, found = activations(model, params, state, x)
    # A part that holds others has the output of its last one.
    layers = [path for path in found if not any(other.startswith(f"{path}/") for other in found)]
    return found[layers[-2]].reshape(len(x), -1), output


def tapped(
    model: Model,
    tap: Callable[[str, Any], Any],
    params: Params,
    state: State,
    *inputs: Any,
    train: bool = False,
    key: Key | None = None,
) -> tuple[Any, State]:
    """Apply a composed model, or a Flax module, with every intermediate output replaced by `tap(path, output)`.

    Differentiating through a tap that adds a zero gives the gradient at that activation. Raises
    `ValueError` for a model without parts.
    """

    def rule(path: str, part: Model, inputs: tuple[Any, ...], proceed: Callable[..., Any]) -> Any:
        below = {"tap": lambda inner, h: tap(f"{path}/{inner}", h)} if _has_own_taps(part) else {}
        return tap(path, proceed(*inputs, **below))

    if _has_own_taps(model):
        return model.apply(params, state, *inputs, train=train, key=key, tap=tap)
    return intercepted(model, rule).apply(params, state, *inputs, train=train, key=key)


def _has_own_taps(model: Model) -> bool:
    """Whether `apply` takes `tap=` itself, as that of a Flax module does, whose submodules are no parts of a graph."""
    return getattr(model.apply, "taps", False)


def freeze_statistics(model: Model) -> Model:
    """The composed model whose batch norms always use their running statistics, which stay; all else trains.

    With updates of some params only, the running statistics of the other layers would still move. Raises `ValueError`
    for a model without parts. Limits are those of `intercepted`: batch norms inside Flax modules are not frozen.
    """
    return intercepted(model, _frozen_statistics)


def _frozen_statistics(path: str, part: Model, inputs: tuple[Any, ...], proceed: Callable[..., Any]) -> Any:
    return proceed(*inputs, train=False) if part.kind == "batch_norm" else proceed(*inputs)
